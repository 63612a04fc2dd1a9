// The row loops in use.
#pragma once

#include "rows.hpp"

namespace ncharness {

const RowKernels& kernels();

}  // namespace ncharness
