// The rows of a matrix in the order of their labels, so that each class is a range of them.
#pragma once

#include "launch.cuh"

namespace ncharness::cuda {

struct SortedLabels {
  int32_t* key;          // (n,) labels, sorted; n_classes for one out of range
  int32_t* order;        // (n,) the rows they belong to, ascending within a class
  int64_t* start;        // (C + 1,) where each class begins; at C, the labels out of range
  long long* first_bad;  // (1,) the first row whose label is out of range, or n

  // For the sort itself.
  int32_t *unsorted_key, *unsorted_row;
  void* scratch;
  size_t scratch_bytes;
};

SortedLabels take_sorted_labels(Pieces& pieces, int64_t n, int64_t n_classes);
void sort_labels(const Labels& y, int64_t n, int64_t n_classes, const SortedLabels& into, cudaStream_t stream);

}  // namespace ncharness::cuda
