"""OpenBLAS, as NumPy brings it. usage: numpy_worker.py; calls: MxNxK"""
import numpy

from serve import serve


class Products(dict):
    def __missing__(self, name):
        m, n, k = map(int, name.split("x"))
        r = numpy.random.default_rng(1)
        a, b = (r.standard_normal(s).astype(numpy.float32) for s in ((m, k), (k, n)))
        c = numpy.empty((m, n), numpy.float32)
        return lambda: lambda: numpy.matmul(a, b, out=c)


blas = numpy.show_config(mode="dicts")["Build Dependencies"]["blas"]
serve(Products(), about=f"{blas['name']} {blas['version']} (NumPy {numpy.__version__})")
