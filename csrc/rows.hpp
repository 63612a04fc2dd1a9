// The innermost loops, over a range of rows in one thread: what is compiled once per instruction set.
#pragma once

#include <cstdint>

#include "class_stats.hpp"

namespace ncharness {

// Pass 1 in one thread, over all columns or some. Sums are of x - origin, and the origin of a class is its mean so far
// or else the first of its rows, so that nothing is lost to a common offset.
struct RowSums {
  const int64_t* before;  // (C,) rows of a class that its origin is the mean of; null: none
  int64_t* count;         // (C,) 0 at the start
  double* origin;         // (C, stride) set when a class without rows before first appears
  double* sum;            // (C, stride) set to 0 when a class first appears; null: origins become means at once
  int64_t stride;
  double* sum_sq;      // (C, lanes) likewise; to be added up, and about the means where these are there at once
  int32_t* order;      // (chunk_rows,) scratch
  int32_t* start;      // (C + 1,) scratch
  int64_t chunk_rows;  // rows sorted by class at a time, all of them if sum is null; or 0: rows are taken as they come
};

// The class means as pass 2 wants them; T is the type that rows are scored in. Scores are those of v = x - base, the
// base being a common shift g or, for the Gram, the mean of the row's own class.
template <class T>
struct CentreView {
  int64_t n_classes;
  int64_t d;
  int64_t n_active;        // classes with a finite mean
  const double* mean;      // (C, d)
  const int64_t* active;   // (n_active,) their indices, ascending
  const int32_t* base_of;  // (C,) the base of a row by its label; null: base 0 for every row
  int64_t stride;          // d, padded to whole vectors with zeros
  const T* base;           // (bases, stride)
  const T* base_rest;      // (bases, stride) what rounding took off the base
  int64_t bias_stride;     // n_active, padded likewise
  const T* bias;           // (bases, bias_stride) ||m_c - base||^2
  const T* packed;  // -2 (m_c - g), g the mean of these, in panels: panel_begin() says where each begins; in each,
                    // column by column
  const T* direct;  // the same as (stride / lanes, direct_classes, lanes); null where classes are many or columns few
  T slope, offset;  // keys of a row closer than offset + slope ||v|| may be in the wrong order
};

// Outputs of one thread; gram (n_active, gram_stride) and directional are those of the active classes.
struct RowScores {
  int64_t* nearest;  // of the whole matrix, written at the rows of the range
  double* gram;
  double* directional;
};

constexpr int64_t tile_columns = 256;  // a group of rows times these many columns lies in the first-level cache
constexpr int64_t max_direct = 12;     // classes at most whose sums need no panels
constexpr int64_t min_direct_columns = 128;
constexpr int64_t block_classes = 512;  // scored at a time before they are ranked, unless the Gram wants all

struct RowKernels {
  const char* name;
  int lanes;          // doubles in a vector
  int panel_classes;  // at most
  void (*sum)(const Matrix& x, const Labels& y, int64_t n_classes, int64_t begin, int64_t end, const RowSums& out);
  // mean += share * sum over d columns; returns sum . (share * sum)
  double (*shift_mean)(const double* sum, double share, int64_t d, double* mean);
  // For float64 features and for all others; `groups` of rows at a time, scratch of scratch_size() doubles.
  void (*score_wide)(const Matrix& x, const Labels& y, int64_t begin, int64_t end, const CentreView<double>& c,
                     int64_t groups, double* scratch, const RowScores& out);
  void (*score)(const Matrix& x, const Labels& y, int64_t begin, int64_t end, const CentreView<float>& c,
                int64_t groups, double* scratch, const RowScores& out);
  // out (n_a, n_b): ||a_i - b_k||^2 of rows (n_a, d) and (n_b, d)
  void (*distances)(const double* a, int64_t n_a, const double* b, int64_t n_b, int64_t d, double* out);
  uint64_t (*read)(const void* data, int64_t bytes);
};

// Static, here and below: a copy of an inline function compiled for one processor must not be linked into the code for
// another.
static inline int64_t group_size(int lanes, bool wide) { return (wide ? 2 : 4) * lanes; }

static inline int64_t panel_count(int64_t n_classes, int64_t panel_classes) {
  return (n_classes + panel_classes - 1) / panel_classes;
}

// Direct sums are made for even numbers of classes, the last of which may be a zero.
static inline int64_t direct_classes(int64_t n_active) { return (n_active + 1) / 2 * 2; }

// Panels are as equal as can be: none is left with a class or two.
static inline int64_t panel_begin(int64_t panel, int64_t n_classes, int64_t n_panels) {
  return n_classes * panel / n_panels;
}

static inline int64_t panels_at_once(int64_t n_classes, int64_t panel_classes, bool gram) {
  const int64_t all = panel_count(n_classes, panel_classes), some = block_classes / panel_classes;
  return gram || all < some ? all : some;
}

// Residual scores and their Gram are padded to whole pairs of vectors.
static inline int64_t gram_stride(int64_t n_active, int lanes) {
  return (n_active + 2 * lanes - 1) / (2 * lanes) * (2 * lanes);
}

// In doubles. Little, so that the allocator keeps it from call to call; `direct` is whether there are direct centres.
static inline int64_t scratch_size(const RowKernels& k, int64_t n_active, int64_t groups, bool wide, bool gram,
                                   bool direct) {
  const int64_t rows = groups * group_size(k.lanes, wide);
  const int64_t keys = panels_at_once(n_active, k.panel_classes, gram) * k.panel_classes;
  const int64_t typed = rows * ((direct ? 0 : tile_columns) + keys + 1 + 16);
  return rows * ((gram ? gram_stride(n_active, k.lanes) : 0) + 2) + (wide ? typed : typed / 2);
}

extern const RowKernels rows_portable;
extern const RowKernels rows_avx2;
extern const RowKernels rows_avx512;

}  // namespace ncharness
