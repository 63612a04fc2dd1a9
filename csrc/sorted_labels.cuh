// Row indices sorted by label, so that the rows of each class are a contiguous range.
//   key (n,) = labels in ascending order, order (n,) = their rows, start (C + 1,) = begin of each class.
// Kernels and launch shapes: sorted_labels.cu.
#pragma once

#include "launch.cuh"

namespace ncharness::cuda {

struct SortedLabels {
  int32_t* key;          // (n,) sorted labels; a label out of range is stored as n_classes
  int32_t* order;        // (n,) row of each key; ascending within a class
  int64_t* start;        // (C + 1,) position where each class begins; entry C: where labels out of range begin
  long long* first_bad;  // (1,) first row whose label is out of range, or n if there is none

  // Scratch of the sort.
  int32_t *unsorted_key, *unsorted_row;
  void* scratch;
  size_t scratch_bytes;
};

// Places the arrays in `pieces`.
SortedLabels take_sorted_labels(Pieces& pieces, int64_t n, int64_t n_classes);
// Fills the arrays from labels y (n,), on `stream`.
void sort_labels(const Labels& y, int64_t n, int64_t n_classes, const SortedLabels& into, cudaStream_t stream);

}  // namespace ncharness::cuda
