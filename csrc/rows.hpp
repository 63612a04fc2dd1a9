// Interface of the row kernels: single-threaded inner loops over a range of rows. They are compiled once per
// instruction set (rows_avx512.cpp, rows_avx2.cpp, rows_portable.cpp) and dispatched at run time (levels.cpp).
//
// Pass 1, `sum`, for each class c with origin o_c (d,):
//   count (C,) = number of rows, sum (C, d) = sum (x - o_c), sum_sq (C,) = sum ||x - o_c||^2.
// Pass 2, `score` and `score_wide`, for each row x (d,) and class mean m_c (d,), with a base b and v = x - b:
//   dot (n, C) = -2 v . (m_c - g), key (n, C) = ||m_c - b||^2 + dot, nearest (n,) = argmin over c of key,
//   g = the mean of the active class means. A key is ||x - m_c||^2 plus a constant of the row.
// CDNV, `distances`: squared distances (n_a, n_b) between two sets of rows.
//
// Blocking: pass 1 in rows_sums.inl, pass 2 in rows_scores.inl. Threads: class_stats_cpu.cpp and class_scores_cpu.cpp.
#pragma once

#include <cstdint>

#include "class_stats.hpp"

namespace ncharness {

// Sums of pass 1 for one thread, over all columns or a range of columns. The kernel sums x - origin rather than x. The
// origin of a class is the mean of its earlier rows, or its first row if there are none. This avoids cancellation if
// the features have a large common offset.
struct RowSums {
  const int64_t* before;  // (C,) number of earlier rows of each class, whose mean is its origin; null: no class has any
  int64_t* count;         // (C,) rows of each class in this call; the caller sets it to 0
  double* origin;         // (C, stride) the kernel sets it at the first row of a class without earlier rows
  double* sum;            // (C, stride) sum of x - origin, set to 0 at the first row of a class. Null: the kernel keeps
                          // no sums and updates each origin to the new mean of the class in place
  int64_t stride;         // elements between classes
  double* sum_sq;      // (C, lanes) partial sums of ||x - origin||^2, to be added over the lanes; about the new means
                       // if sum is null. Set to 0 at the first row of a class
  int32_t* order;      // (chunk_rows,) scratch
  int32_t* start;      // (C + 1,) scratch
  int64_t chunk_rows;  // number of rows that are sorted by class at a time; 0: rows in their given order. If sum is
                       // null, one chunk must hold all rows
};

// Class means in the form that pass 2 needs. T is the type of the scores: float, or double for float64 features. A row
// is scored as v = x - base. Without the Gram there is one base for all rows: g, rounded to T. With the Gram the base
// of a row is the mean of its class, or g if that mean is not finite.
template <class T>
struct CentreView {
  int64_t n_classes;
  int64_t d;
  int64_t n_active;        // number of active classes, those with a finite mean
  const double* mean;      // (C, d)
  const int64_t* active;   // (n_active,) indices of the active classes, ascending
  const int32_t* base_of;  // (C,) index of the base for each label, with the Gram; null: base 0 for every row
  int64_t stride;          // d rounded up to whole vectors; the padding is 0
  const T* base;           // (bases, stride)
  const T* base_rest;      // (bases, stride) with the Gram only: base in float64 minus base in T
  int64_t bias_stride;     // n_active rounded up to whole vectors; the padding is 0
  const T* bias;           // (bases, bias_stride) ||m_c - base||^2
  const T* packed;         // -2 (m_c - g) of the active classes, in panels of classes (panel_begin()). A panel of k
                           // classes is (d, k) row-major. Empty if `direct` is set
  const T* direct;         // -2 (m_c - g) as (stride / lanes, direct_classes(), lanes), for few classes. Null: use
                           // `packed`
  T slope, offset;         // error bound: if two keys of a row differ by less than offset + slope ||v||, their order is
                           // not certain
};

// Outputs of pass 2 for one thread. gram and directional are (n_active, gram_stride()) over the active classes.
struct RowScores {
  int64_t* nearest;     // (n,) for the whole matrix; the thread writes its own rows. May be null
  double* gram;         // added to; only the upper triangle is complete. Null: no Gram
  double* directional;  // added to; null with gram
};

constexpr int64_t tile_columns = 256;        // column tile of pass 2: a group of rows by this many columns fits L1
constexpr int64_t max_direct = 12;           // the direct kernel is used for at most this many classes
constexpr int64_t min_direct_columns = 128;  // the direct kernel is used for at least this many columns
constexpr int64_t block_classes = 512;       // classes that are scored before they are ranked; all with the Gram

// The kernels of one instruction set.
struct RowKernels {
  const char* name;
  int lanes;          // doubles per vector
  int panel_classes;  // largest number of classes in a panel (register blocking)
  // Pass 1 over rows [begin, end). Labels must be valid.
  void (*sum)(const Matrix& x, const Labels& y, int64_t n_classes, int64_t begin, int64_t end, const RowSums& out);
  // mean (d,) += share * sum (d,). Returns the dot product sum . (share * sum).
  double (*shift_mean)(const double* sum, double share, int64_t d, double* mean);
  // Pass 2 over rows [begin, end), in blocks of `groups` row groups. Scratch: scratch_size() doubles.
  // score_wide: float64 features, scored in float64. score: all other features, scored in float32.
  void (*score_wide)(const Matrix& x, const Labels& y, int64_t begin, int64_t end, const CentreView<double>& c,
                     int64_t groups, double* scratch, const RowScores& out);
  void (*score)(const Matrix& x, const Labels& y, int64_t begin, int64_t end, const CentreView<float>& c,
                int64_t groups, double* scratch, const RowScores& out);
  // out (n_a, n_b): ||a_i - b_k||^2 for contiguous rows a (n_a, d) and b (n_b, d).
  void (*distances)(const double* a, int64_t n_a, const double* b, int64_t n_b, int64_t d, double* out);
  // Reads `bytes` bytes with vector loads; returns a checksum.
  uint64_t (*read)(const void* data, int64_t bytes);
};

// Functions here and below are `static`. Otherwise the linker would keep a single copy of each, which may be compiled
// for an instruction set that the processor lacks.

// Rows in a group: two vectors of scores. `wide`: scores are float64 (features are float64), else float32. `lanes`
// counts doubles.
static inline int64_t group_size(int lanes, bool wide) { return (wide ? 2 : 4) * lanes; }

// Number of panels of at most `panel_classes` classes.
static inline int64_t panel_count(int64_t n_classes, int64_t panel_classes) {
  return (n_classes + panel_classes - 1) / panel_classes;
}

// Number of classes of the direct kernel, which exists for even numbers only. A class of zeros pads an odd number.
static inline int64_t direct_classes(int64_t n_active) { return (n_active + 1) / 2 * 2; }

// First class of a panel. Panel sizes differ by at most one, so there is no small panel at the end.
static inline int64_t panel_begin(int64_t panel, int64_t n_classes, int64_t n_panels) {
  return n_classes * panel / n_panels;
}

// Panels in a block of classes: block_classes at most, or all with the Gram, which needs every score of a row.
static inline int64_t panels_at_once(int64_t n_classes, int64_t panel_classes, bool gram) {
  const int64_t all = panel_count(n_classes, panel_classes), some = block_classes / panel_classes;
  return gram || all < some ? all : some;
}

// Row stride of the residual scores and of the Gram: n_active rounded up to a multiple of two vectors of doubles.
static inline int64_t gram_stride(int64_t n_active, int lanes) {
  return (n_active + 2 * lanes - 1) / (2 * lanes) * (2 * lanes);
}

// Scratch of `score` and `score_wide`, in doubles. It is small enough that the allocator reuses it from call to call.
// `wide`: scores are float64. `direct`: the direct kernel is used, which needs no transposed rows.
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
