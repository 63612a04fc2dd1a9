// Access to the kernels of the instruction set level that is in use.
#pragma once

#include "rows.hpp"

namespace ncharness {

const RowKernels& kernels();

}  // namespace ncharness
