// Sorts row indices by label: order (n,) = rows in ascending order of labels y (n,), start (C + 1,) = begin of each
// class. The sort is cub's radix sort. It is stable, so rows of a class stay in ascending order and the result is
// deterministic.
//
// Launch shapes, without shared memory in the kernels of this file:
//   set_value    grid 1, block 1.
//   read_labels  grid ceil(n / 128), block 128: one thread reads one label.
//   find_starts  grid ceil((C + 1) / 128), block 128: one thread finds one start by binary search.
// cub chooses launch shape and shared memory of the sort itself.
// Speed: see the benchmarks, once they have been run on a GPU.
#include <cub/device/device_radix_sort.cuh>

#include "sorted_labels.cuh"

namespace ncharness::cuda {
namespace {

constexpr int threads = 128;

// Number of bits of the largest key, n_classes. The radix sort ignores all higher bits.
int key_bits(int64_t n_classes) {
  int bits = 1;
  while (n_classes >> bits) ++bits;
  return bits;
}

__global__ void set_value(long long* at, int64_t value) { *at = value; }

// unsorted_key[i] = label i, or n_classes if it is out of range; unsorted_row[i] = i; first_bad = first such row.
template <class L>
__global__ void read_labels(const L* labels, int64_t n, int64_t n_classes, SortedLabels to) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= n) return;
  const int64_t label = static_cast<int64_t>(labels[i]);
  const bool good = label >= 0 && label < n_classes;
  to.unsorted_key[i] = static_cast<int32_t>(good ? label : n_classes);
  to.unsorted_row[i] = static_cast<int32_t>(i);
  if (!good) atomicMin(to.first_bad, static_cast<long long>(i));
}

// start[c] = the first position whose key is at least c.
__global__ void find_starts(int64_t n, int64_t n_classes, SortedLabels to) {
  const int64_t c = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (c > n_classes) return;
  int64_t low = 0, high = n;
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (to.key[middle] < c)
      low = middle + 1;
    else
      high = middle;
  }
  to.start[c] = low;
}

}  // namespace

SortedLabels take_sorted_labels(Pieces& pieces, int64_t n, int64_t n_classes) {
  SortedLabels to;
  to.key = pieces.take<int32_t>(n);
  to.order = pieces.take<int32_t>(n);
  to.start = pieces.take<int64_t>(n_classes + 1);
  to.first_bad = pieces.take<long long>(1);
  to.unsorted_key = pieces.take<int32_t>(n);
  to.unsorted_row = pieces.take<int32_t>(n);
  to.scratch_bytes = 0;
  succeed(cub::DeviceRadixSort::SortPairs(nullptr, to.scratch_bytes, to.unsorted_key, to.key, to.unsorted_row, to.order,
                                          static_cast<int>(n), 0, key_bits(n_classes)),
          "sort");
  to.scratch = pieces.take<char>(static_cast<int64_t>(to.scratch_bytes));
  return to;
}

void sort_labels(const Labels& y, int64_t n, int64_t n_classes, const SortedLabels& into, cudaStream_t stream) {
  launch("set_value", set_value, dim3(1), 1, 0, stream, into.first_bad, n);
  const auto read = [&](auto* labels, auto kernel) {
    launch("read_labels", kernel, dim3(blocks_of(n, threads)), threads, 0, stream, labels, n, n_classes, into);
  };
  if (y.type == LabelType::int64) read(static_cast<const int64_t*>(y.data), read_labels<int64_t>);
  if (y.type == LabelType::int32) read(static_cast<const int32_t*>(y.data), read_labels<int32_t>);
  if (y.type == LabelType::uint8) read(static_cast<const uint8_t*>(y.data), read_labels<uint8_t>);
  size_t scratch_bytes = into.scratch_bytes;
  if (n > 0)
    succeed(cub::DeviceRadixSort::SortPairs(into.scratch, scratch_bytes, into.unsorted_key, into.key, into.unsorted_row,
                                            into.order, static_cast<int>(n), 0, key_bits(n_classes), stream),
            "sort");
  launch("find_starts", find_starts, dim3(blocks_of(n_classes + 1, threads)), threads, 0, stream, n, n_classes, into);
}

}  // namespace ncharness::cuda
