/* All of gimbal's public headers. */
#ifndef GIMBAL_GIMBAL_H
#define GIMBAL_GIMBAL_H

#include <gimbal/bench.h>
#include <gimbal/classifier.h>
#include <gimbal/compare.h>
#include <gimbal/data.h>
#include <gimbal/device.h>
#include <gimbal/file.h>
#include <gimbal/graph.h>
#include <gimbal/io.h>
#include <gimbal/nn.h>
#include <gimbal/onnx.h>
#include <gimbal/program.h>
#include <gimbal/recipe.h>
#include <gimbal/report.h>
#include <gimbal/selftest.h>
#include <gimbal/status.h>
#include <gimbal/train.h>
#include <gimbal/tune.h>
#include <gimbal/types.h>

#endif
