"""CLBlast on an OpenCL device. usage: clblast_worker.py DEVICE_NUMBER; calls: MxNxK"""
import ctypes as c
import sys

from serve import serve

cl, blast = c.CDLL("libOpenCL.so.1"), c.CDLL("libclblast.so.1")
for f in ("clCreateContext", "clCreateCommandQueue", "clCreateBuffer"):
    getattr(cl, f).restype = c.c_void_p


def check(code, what):
    if code:
        raise RuntimeError(f"{what} gives {code}")


def devices():
    platforms, n, found = (c.c_void_p * 16)(), c.c_uint(), []
    check(cl.clGetPlatformIDs(16, platforms, c.byref(n)), "clGetPlatformIDs")
    for p in platforms[:n.value]:
        ids, count = (c.c_void_p * 16)(), c.c_uint()
        if cl.clGetDeviceIDs(c.c_void_p(p), c.c_ulong(0xFFFFFFFF), 16, ids, c.byref(count)) == 0:
            found += ids[:count.value]
    return found


class Products(dict):
    def __init__(self, number):
        device, code = c.c_void_p(devices()[number]), c.c_int()
        self.context = c.c_void_p(cl.clCreateContext(None, 1, c.byref(device), None, None,
                                                     c.byref(code)))
        check(code.value, "clCreateContext")
        self.queue = c.c_void_p(cl.clCreateCommandQueue(self.context, device, c.c_ulong(0),
                                                        c.byref(code)))
        check(code.value, "clCreateCommandQueue")

    def buffer(self, count):
        code, data = c.c_int(), (c.c_float * count)(*([0.5] * count))
        mem = cl.clCreateBuffer(self.context, c.c_ulong(1 | 32), c.c_size_t(4 * count), data,
                                c.byref(code))  # read-write, copied from data
        check(code.value, "clCreateBuffer")
        return c.c_void_p(mem)

    def __missing__(self, name):
        m, n, k = map(int, name.split("x"))

        def make():
            a, b, y = self.buffer(m * k), self.buffer(k * n), self.buffer(m * n)
            sizes = [c.c_size_t(v) for v in (m, n, k)]
            no, one, zero = c.c_size_t(0), c.c_float(1), c.c_float(0)

            def product():  # row-major, neither transposed
                check(blast.CLBlastSgemm(101, 111, 111, *sizes, one, a, no, sizes[2], b, no,
                                         sizes[1], zero, y, no, sizes[1], c.byref(self.queue),
                                         None), "CLBlastSgemm")
                check(cl.clFinish(self.queue), "clFinish")
            return product
        return make


serve(Products(int(sys.argv[1])), about="CLBlast")
