// Pass 2 on the CPU. For features x (n, d) and class means m_c (d,), c in [0, C), g = the mean of the finite means:
//   nearest (n,) = argmin over c of ||m_c - b||^2 - 2 (x - b) . (m_c - g), b = g rounded to T, near ties in float64;
//   with the Gram: t (n, C) = (x - m_y) . (m_c - g), gram (C, C) = t^T t, directional[a][c] = sum over rows of class a
//   of (t_c - t_a)^2, and b = m_y.
// T, the type of the products, is float32, or float64 for float64 features.
//
// This file prepares the tables of the centres with their error bound (Centres) and distributes rows to threads
// (class_scores). The kernels are in rows_scores.inl, where the measured versions are listed too.
//
// Blocking: a thread scores blocks of 1, 4 or 8 row groups. Larger blocks are used with the Gram (4) and if the centres
// exceed cached_centres bytes (8), so that each load of the centres serves more rows.
// Threads: contiguous ranges of rows that begin at multiples of 64. Each thread has its own Gram and directional sums;
// they are added up in the order of the threads.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "buffer.hpp"
#include "class_stats.hpp"
#include "levels.hpp"
#include "threads.hpp"

namespace ncharness {
namespace {

// A CentreView<T> and the buffers that own its tables.
template <class T>
struct TypedTables {
  Buffer<T> base, base_rest, bias, packed, direct;
  CentreView<T> view;
};

// into (n,) = -2 (mean - g). The factor -2 comes from the key, ||m_c - b||^2 - 2 v . (m_c - g).
template <class T>
void centre(const double* __restrict mean, const double* __restrict g, int64_t n, T* __restrict into) {
  for (int64_t j = 0; j < n; ++j) into[j] = static_cast<T>(-2 * (mean[j] - g[j]));
}

}  // namespace

// `wide`: the features are float64, so wide_tables is filled. Otherwise narrow_tables is.
struct Centres::Tables {
  const RowKernels& rows;
  int64_t n_classes, d;
  bool wide, gram;
  std::vector<double> mean;
  std::vector<int64_t> active;
  std::vector<int32_t> base_of;
  TypedTables<float> narrow_tables;
  TypedTables<double> wide_tables;

  template <class T>
  void fill(TypedTables<T>& t, int threads);
};

template <class T>
void Centres::Tables::fill(TypedTables<T>& t, int threads) {
  const int64_t m = static_cast<int64_t>(active.size()), bases = gram ? m + 1 : 1;  // the last base is the common shift
  const int64_t lanes = rows.lanes * 8 / static_cast<int64_t>(sizeof(T)), stride = (d + lanes - 1) / lanes * lanes;
  const auto mean_of = [&](int64_t k) { return mean.data() + active[static_cast<size_t>(k)] * d; };

  // middle = g, in float64. shift = g rounded to T, the common base. Any base gives the right order of keys, since it
  // changes all keys of a row by the same amount. So the rounding does no harm.
  std::vector<double> middle(static_cast<size_t>(d));
  for (int64_t k = 0; k < m; ++k)
    for (int64_t j = 0; j < d; ++j) middle[static_cast<size_t>(j)] += mean_of(k)[j];
  for (double& g : middle) g /= static_cast<double>(std::max<int64_t>(m, 1));
  std::vector<double> shift(static_cast<size_t>(d));
  std::transform(middle.begin(), middle.end(), shift.begin(),
                 [](double g) { return static_cast<double>(static_cast<T>(g)); });

  t.base = zeros<T>(bases * stride);
  t.base_rest = zeros<T>(gram ? bases * stride : 0);
  for (int64_t b = 0; b < bases; ++b) {
    const double* from = b < bases - 1 ? mean_of(b) : shift.data();
    for (int64_t j = 0; j < d; ++j) t.base[b * stride + j] = static_cast<T>(from[j]);
    if (!gram) continue;
    for (int64_t j = 0; j < d; ++j)
      t.base_rest[b * stride + j] = static_cast<T>(from[j] - static_cast<double>(t.base[b * stride + j]));
  }

  // Tables of -2 (m_c - g): `direct` for few classes and long rows, `packed` otherwise.
  const bool few = m > 0 && m <= max_direct && d >= min_direct_columns;
  t.packed = buffer<T>(few ? 0 : m * d);
  t.direct = zeros<T>(few ? direct_classes(m) * stride : 0);
  const int64_t n_panels = panel_count(m, rows.panel_classes);
  over_rows(n_panels, useful_threads(m, d, threads), 1, [&](int, int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      const int64_t first = panel_begin(p, m, n_panels), width = panel_begin(p + 1, m, n_panels) - first;
      for (int64_t k = first; k < first + width; ++k) {
        const double *from = mean_of(k), *g = middle.data();
        if (few) {
          T* into = t.direct.get() + k * lanes;
          for (int64_t j = 0; j < d; j += lanes, into += direct_classes(m) * lanes)
            centre(from + j, g + j, std::min(lanes, d - j), into);
        } else {
          T* into = t.packed.get() + first * d + (k - first);
          for (int64_t j = 0; j < d; ++j) into[j * width] = static_cast<T>(-2 * (from[j] - g[j]));
        }
      }
    }
  });

  // bias = ||m_c - base||^2 for every base and class. Bases that are class means lie consecutively in `mean`, except
  // where an inactive class comes between them. So up to `block` of them are passed to one call of distances().
  const int64_t bias_stride = (m + lanes - 1) / lanes * lanes;
  constexpr int64_t block = 8;
  t.bias = zeros<T>(bases * bias_stride);
  const auto add_bias = [&](const double* base, int64_t n_bases, int64_t first, double* sq_distance) {
    rows.distances(base, n_bases, mean.data(), n_classes, d, sq_distance);
    for (int64_t b = 0; b < n_bases; ++b)
      for (int64_t k = 0; k < m; ++k)
        t.bias[(first + b) * bias_stride + k] =
            static_cast<T>(sq_distance[b * n_classes + active[static_cast<size_t>(k)]]);
  };
  const int bias_threads = useful_threads(bases, n_classes * d, threads);
  std::vector<Buffer<double>> sq_distances;
  for (int i = 0; i < bias_threads; ++i) sq_distances.push_back(buffer<double>(block * n_classes));
  over_rows(bases, bias_threads, block, [&](int i, int64_t begin, int64_t end) {
    double* sq_distance = sq_distances[static_cast<size_t>(i)].get();
    for (int64_t b = begin; b < std::min(end, bases - 1);) {
      int64_t next = b + 1;
      while (next < std::min({end, bases - 1, b + block}) && mean_of(next) == mean_of(next - 1) + d) ++next;
      add_bias(mean_of(b), next - b, b, sq_distance);
      b = next;
    }
    if (end == bases) add_bias(shift.data(), 1, bases - 1, sq_distance);
  });

  double reach_sq = 0, largest_mean = 0;
  for (int64_t k = 0; k < m; ++k) {
    reach_sq = std::max(reach_sq, static_cast<double>(t.bias[(bases - 1) * bias_stride + k]));
    for (int64_t j = 0; gram && j < d; ++j) largest_mean = std::max(largest_mean, std::abs(mean_of(k)[j]));
  }

  // Error bound. Let u be the unit roundoff of T and a_c = m_c - g. The rounding error of a key,
  // ||m_c - b||^2 - 2 v . a_c, is at most
  //   u (2 (s + 5) ||v|| ||a_c|| + 2 ||m_c - b||^2),  s = columns of a tile + number of tiles.
  // The term with s bounds the sums of products; the other terms bound the rounding of v, a_c, the key and the norm.
  // The difference of two keys has twice this error. `offset` also covers underflow and, with the Gram, the part of a
  // class mean that base + base_rest does not represent.
  const double u = std::numeric_limits<T>::epsilon() / 2, reach = std::sqrt(reach_sq);
  const double steps = static_cast<double>(std::min(d, tile_columns) + (d + tile_columns - 1) / tile_columns + 5);
  const double columns = std::sqrt(static_cast<double>(d)), least = std::numeric_limits<T>::min();
  const double slope = 1.01 * 4 * u * steps * reach, largest_bias = (gram ? 4 : 1) * reach_sq;
  const double left_out = gram ? 4 * u * u * largest_mean * columns * reach : 0;
  const double offset =
      4 * u * largest_bias + left_out + slope * columns * std::sqrt(least) + columns * columns * least;

  t.view = {n_classes,
            d,
            m,
            mean.data(),
            active.data(),
            gram ? base_of.data() : nullptr,
            stride,
            t.base.get(),
            t.base_rest.get(),
            bias_stride,
            t.bias.get(),
            t.packed.get(),
            few ? t.direct.get() : nullptr,
            static_cast<T>(slope),
            static_cast<T>(1.01 * offset)};
}

Centres::Centres(const double* mean, int64_t n_classes, int64_t d, bool wide, bool gram, int threads) {
  auto tables = std::unique_ptr<Tables>(
      new Tables{kernels(), n_classes, d, wide, gram, {mean, mean + n_classes * d}, {}, {}, {}, {}});
  double nothing = 0;  // distance of a mean to itself: 0, or NaN if the mean is not finite
  for (int64_t c = 0; c < n_classes; ++c) {
    tables->rows.distances(mean + c * d, 1, mean + c * d, 1, d, &nothing);
    if (nothing == 0) tables->active.push_back(c);
  }
  if (gram) {
    tables->base_of.assign(static_cast<size_t>(n_classes), static_cast<int32_t>(tables->active.size()));
    for (size_t k = 0; k < tables->active.size(); ++k)
      tables->base_of[static_cast<size_t>(tables->active[k])] = static_cast<int32_t>(k);
  }
  if (wide)
    tables->fill(tables->wide_tables, threads);
  else
    tables->fill(tables->narrow_tables, threads);
  tables_ = std::move(tables);
}

Centres::~Centres() = default;

int64_t Centres::n_classes() const { return tables_->n_classes; }
int64_t Centres::d() const { return tables_->d; }
bool Centres::wide() const { return tables_->wide; }
bool Centres::gram() const { return tables_->gram; }

namespace {

// Centres of more bytes than this do not stay in L2. Then larger blocks of rows are scored per sweep over the centres.
constexpr int64_t cached_centres = 512 << 10;

// Adds the sums of all threads, over the active classes, and writes them to `out` (C, C). Entries of inactive classes
// are 0. `symmetric`: only the upper triangle of the parts is valid.
void spread(const std::vector<Buffer<double>>& parts, const std::vector<int64_t>& active, int64_t n_classes,
            int64_t stride, bool symmetric, double* out) {
  std::fill_n(out, n_classes * n_classes, 0.0);
  const int64_t m = static_cast<int64_t>(active.size());
  for (const Buffer<double>& part : parts)
    for (int64_t k = 0; k < m; ++k)
      for (int64_t l = 0; l < m; ++l) {
        const int64_t at = symmetric ? std::min(k, l) * stride + std::max(k, l) : k * stride + l;
        out[active[static_cast<size_t>(k)] * n_classes + active[static_cast<size_t>(l)]] +=
            part[static_cast<size_t>(at)];
      }
}

}  // namespace

int64_t class_scores(const Matrix& x, const Labels& y, const Centres& centres, int threads, const ClassScores& out) {
  const Centres::Tables& tables = *centres.tables_;
  const RowKernels& rows = tables.rows;
  const int64_t m = static_cast<int64_t>(tables.active.size()), group = group_size(rows.lanes, tables.wide);
  const int64_t element = tables.wide ? 8 : 4, stride = gram_stride(m, rows.lanes);
  const bool gram = out.gram != nullptr;
  threads = useful_threads(x.n, x.d, threads);
  const bool few =
      tables.wide ? tables.wide_tables.view.direct != nullptr : tables.narrow_tables.view.direct != nullptr;
  const int64_t wanted = !few && m * x.d * element > cached_centres ? 8 : gram ? 4 : 1;
  const int64_t groups = std::max<int64_t>(1, std::min(wanted, (x.n / threads + group - 1) / group));

  const int64_t bad = y.data ? first_bad_label(y, x.n, tables.n_classes, useful_threads(x.n, 16, threads)) : -1;
  if (bad >= 0) return bad;

  std::vector<Buffer<double>> scratch, grams, directionals;
  for (int t = 0; t < threads; ++t) {
    scratch.push_back(buffer<double>(scratch_size(rows, m, groups, tables.wide, gram, few)));
    grams.push_back(zeros<double>(gram ? stride * stride : 0));
    directionals.push_back(zeros<double>(gram ? stride * stride : 0));
  }
  over_rows(x.n, threads, 64, [&](int t, int64_t begin, int64_t end) {
    const size_t own = static_cast<size_t>(t);
    const RowScores into = {out.nearest, gram ? grams[own].get() : nullptr, gram ? directionals[own].get() : nullptr};
    if (tables.wide)
      rows.score_wide(x, y, begin, end, tables.wide_tables.view, groups, scratch[own].get(), into);
    else
      rows.score(x, y, begin, end, tables.narrow_tables.view, groups, scratch[own].get(), into);
  });
  if (gram) {
    spread(grams, tables.active, tables.n_classes, stride, true, out.gram);
    spread(directionals, tables.active, tables.n_classes, stride, false, out.directional);
  }
  return -1;
}

}  // namespace ncharness
