// Pass 1 and CDNV on the CPU. For features x (n, d) with labels in [0, C), in float64:
//   count (C,) = number of rows, mean (C, d) = sum x / count, scatter (C,) = sum ||x - mean||^2;
//   cdnv = mean over pairs i < j of classes with rows of (V_i + V_j) / (2 ||m_i - m_j||^2), V = scatter / count.
// The kernels sum x - origin, where the origin of a class is the mean of its earlier rows or its first row. Kernels,
// blocking within a thread and measured versions: rows_sums.inl, rows_distances.inl.
//
// Threads, pass 1:
// - Columns (add_columns): each thread processes a range of columns of all rows; nothing needs to be merged. Used for
//   one thread, and if each thread gets at least 1024 columns, or 64 columns with fewer than 64 rows per class.
// - Rows (add_ranges): each thread processes a contiguous range of rows with sums of its own. The statistics of the
//   threads are merged in the order of the threads. Used otherwise.
// Threads, CDNV: blocks of 8 classes; threads take the next block when they are free.
#include <algorithm>
#include <atomic>
#include <limits>
#include <numeric>
#include <vector>

#include "buffer.hpp"
#include "class_stats.hpp"
#include "levels.hpp"
#include "threads.hpp"

namespace ncharness {
namespace {

// If the sums and origins of all classes take at most this many bytes, they stay in L1 and rows are not sorted.
constexpr int64_t cached_sums = 32 << 10;

// Rows are split by columns if every thread gets at least this many.
constexpr int64_t long_columns = 1024;

// With fewer rows per class on average, clearing and merging separate sums for each thread costs more than short ranges
// of columns do.
constexpr int64_t few_rows_per_class = 64;

// Scratch and counters of one thread, except origins and sums. The buffers are not initialised, so a class without rows
// uses no memory except its count.
struct Tally {
  std::vector<int64_t> count;
  Buffer<double> sum_sq;
  Buffer<int32_t> order, start;
  RowSums view;

  Tally(int64_t rows, int64_t n_classes, int64_t d, int lanes)
      : count(static_cast<size_t>(n_classes)), sum_sq(buffer<double>(n_classes * lanes)) {
    const bool sorted = n_classes * d * 2 * static_cast<int64_t>(sizeof(double)) > cached_sums && n_classes <= rows;
    const int64_t chunk = sorted ? std::min(rows, std::max<int64_t>(256, 8 * n_classes)) : 0;
    order = buffer<int32_t>(chunk);
    start = buffer<int32_t>(sorted ? n_classes + 1 : 0);
    view = {nullptr, count.data(), nullptr, nullptr, 0, sum_sq.get(), order.get(), start.get(), chunk};
  }

  // sum ||x - origin||^2 of class c.
  double squares(int64_t c, int lanes) const {
    return std::accumulate(sum_sq.get() + c * lanes, sum_sq.get() + (c + 1) * lanes, 0.0);
  }
};

// Limit for cancellation: sum ||x - origin||^2 of a class may be at most this many times its scatter. With its first
// row as the origin it is usually about twice the scatter. It exceeds the limit only if that row is an outlier among
// more rows than this.
constexpr int64_t lossless = 1 << 10;

// Pass 1 of one thread. If the scatter of a class would lose too many digits to cancellation, the pass is repeated with
// the class means as origins.
void sum_rows(const RowKernels& rows, const Matrix& x, const Labels& y, int64_t n_classes, int64_t begin, int64_t end,
              Tally& tally) {
  RowSums& view = tally.view;
  rows.sum(x, y, n_classes, begin, end, view);
  // Whether sum ||x - origin||^2 of class c exceeds `lossless` times its scatter.
  const auto cancels = [&](int64_t c) {
    const double* sum = view.sum + c * view.stride;
    const double squares = tally.squares(c, rows.lanes), shift_sq = std::inner_product(sum, sum + x.d, sum, 0.0);
    return squares > static_cast<double>(lossless) * (squares - shift_sq / static_cast<double>(view.count[c]));
  };
  bool again = false;
  for (int64_t c = 0; c < n_classes; ++c) {
    const bool fresh = view.count[c] > lossless && (!view.before || view.before[c] == 0);
    again |= fresh && cancels(c);
  }
  if (!again) return;
  std::vector<int64_t> known(static_cast<size_t>(n_classes));
  for (int64_t c = 0; c < n_classes; ++c) {
    const bool fresh = !view.before || view.before[c] == 0;
    known[static_cast<size_t>(c)] = fresh ? view.count[c] : view.before[c];
    if (fresh && view.count[c] > 0)
      for (int64_t j = 0; j < x.d; ++j)
        view.origin[c * view.stride + j] += view.sum[c * view.stride + j] / static_cast<double>(view.count[c]);
    view.count[c] = 0;
  }
  const int64_t* before = view.before;
  view.before = known.data();
  rows.sum(x, y, n_classes, begin, end, view);
  view.before = before;
}

double at_least_0(double value) { return value < 0 ? 0 : value; }  // NaN stays

// Adds all rows, with the columns split among the threads. Origins are the means in `stats`, which are updated in
// place, so nothing needs to be merged. The scatters of the column ranges are added up in the order of the threads.
void add_columns(const Matrix& x, const Labels& y, int64_t n_classes, int threads, const ClassStats& stats) {
  const RowKernels& rows = kernels();
  const size_t classes = static_cast<size_t>(n_classes);
  std::vector<std::vector<double>> scatter(static_cast<size_t>(threads), std::vector<double>(classes));
  std::vector<Tally> tallies;
  for (int t = 0; t < threads; ++t) tallies.emplace_back(x.n, n_classes, x.d, rows.lanes);
  // If all rows are sorted in one chunk, each class is visited once per column tile, and the kernel can update the
  // means in place without a table of sums. sum_rows does not read the sums either, because n <= lossless.
  const bool at_once = tallies[0].view.chunk_rows == x.n && x.n <= lossless;
  const Buffer<double> sums = buffer<double>(at_once ? 0 : n_classes * x.d);
  over_rows(x.d, threads, 64, [&](int t, int64_t from, int64_t to) {
    const int64_t size = bytes_of(x.dtype), d = to - from;
    const Matrix columns = {static_cast<const char*>(x.data) + from * size, x.dtype, x.n, d, x.row_stride};
    Tally& tally = tallies[static_cast<size_t>(t)];
    RowSums& view = tally.view;
    view.before = stats.count;
    view.origin = stats.mean + from;
    view.sum = at_once ? nullptr : sums.get() + from;
    view.stride = x.d;
    sum_rows(rows, columns, y, n_classes, 0, x.n, tally);
    for (int64_t c = 0; c < n_classes; ++c) {
      if (view.count[c] == 0) continue;
      double& squares = scatter[static_cast<size_t>(t)][static_cast<size_t>(c)] = tally.squares(c, rows.lanes);
      const double share = 1 / static_cast<double>(stats.count[c] + view.count[c]);
      if (!at_once) squares -= rows.shift_mean(view.sum + c * x.d, share, d, view.origin + c * x.d);
    }
  });
  for (size_t c = 0; c < classes; ++c) {
    for (const std::vector<double>& part : scatter) stats.scatter[c] += at_least_0(part[c]);
    stats.count[c] += tallies[0].count[c];
  }
}

// Merges the statistics of one thread into `into` (Chan, Golub & LeVeque, STAN-CS-79-773).
void merge(const Tally& part, int64_t n_classes, int64_t d, int lanes, const ClassStats& into) {
  for (int64_t c = 0; c < n_classes; ++c) {
    if (part.view.count[c] == 0) continue;
    const double here = static_cast<double>(part.view.count[c]), before = static_cast<double>(into.count[c]);
    const double *origin = part.view.origin + c * d, *sum = part.view.sum + c * d;
    double* mean = into.mean + c * d;
    double offset = 0, between = 0;
    for (int64_t j = 0; j < d; ++j) {
      const double own_offset = sum[j] / here, own_mean = origin[j] + own_offset;
      offset += sum[j] * own_offset;
      if (before > 0) {
        const double delta = own_mean - mean[j];
        between += delta * delta;
        mean[j] += delta * (here / (before + here));
      } else {
        mean[j] = own_mean;
      }
    }
    into.scatter[c] +=
        at_least_0(part.squares(c, lanes) - offset) + (before > 0 ? between * (before * here / (before + here)) : 0);
    into.count[c] += part.view.count[c];
  }
}

// Adds all rows, with contiguous ranges of rows split among the threads. Each thread has its own origins and sums.
void add_ranges(const Matrix& x, const Labels& y, int64_t n_classes, int threads, const ClassStats& stats) {
  const RowKernels& rows = kernels();
  std::vector<Tally> tallies;
  std::vector<Buffer<double>> tables;
  for (int t = 0; t < threads; ++t) {
    tallies.emplace_back(x.n / threads + 64, n_classes, x.d, rows.lanes);
    RowSums& view = tallies.back().view;
    view.origin = tables.emplace_back(buffer<double>(n_classes * x.d)).get();
    view.sum = tables.emplace_back(buffer<double>(n_classes * x.d)).get();
    view.stride = x.d;
  }
  over_rows(x.n, threads, 1, [&](int t, int64_t begin, int64_t end) {
    sum_rows(rows, x, y, n_classes, begin, end, tallies[static_cast<size_t>(t)]);
  });
  for (const Tally& part : tallies) merge(part, n_classes, x.d, rows.lanes, stats);
}

}  // namespace

int64_t first_bad_label(const Labels& y, int64_t n, int64_t n_classes, int threads) {
  std::vector<int64_t> bad(static_cast<size_t>(threads), -1);
  over_rows(n, threads, 1, [&](int t, int64_t begin, int64_t end) {
    const auto outside = [&](int64_t i) { return label_at(y, i) < 0 || label_at(y, i) >= n_classes; };
    while (begin < end && !outside(begin)) ++begin;
    if (begin < end) bad[static_cast<size_t>(t)] = begin;
  });
  const auto found = std::find_if(bad.begin(), bad.end(), [](int64_t index) { return index >= 0; });
  return found == bad.end() ? -1 : *found;
}

int64_t add_rows(const Matrix& x, const Labels& y, int64_t n_classes, int threads, const ClassStats& stats) {
  const int64_t bad = first_bad_label(y, x.n, n_classes, useful_threads(x.n, 16, threads));
  if (bad >= 0) return bad;
  threads = useful_threads(x.n, x.d, threads);
  const bool few_rows = x.n < few_rows_per_class * n_classes && threads * 64 <= x.d;
  if (few_rows || threads * long_columns <= x.d) {
    add_columns(x, y, n_classes, threads, stats);
  } else {
    // Separate sums are worth their cost only if each thread has at least as many rows as there are classes.
    threads = static_cast<int>(std::max<int64_t>(1, std::min<int64_t>(threads, x.n / n_classes)));
    if (threads == 1)
      add_columns(x, y, n_classes, 1, stats);
    else
      add_ranges(x, y, n_classes, threads, stats);
  }
  return -1;
}

int64_t class_stats(const Matrix& x, const Labels& y, int64_t n_classes, int threads, const ClassStats& stats) {
  std::fill_n(stats.count, n_classes, 0);
  std::fill_n(stats.scatter, n_classes, 0.0);
  const int64_t bad = add_rows(x, y, n_classes, threads, stats);
  for (int64_t c = 0; c < n_classes; ++c)
    if (stats.count[c] == 0) std::fill_n(stats.mean + c * x.d, x.d, std::numeric_limits<double>::quiet_NaN());
  return bad;
}

double cdnv(const int64_t* count, const double* mean, const double* scatter, int64_t n_classes, int64_t d,
            int threads) {
  const RowKernels& rows = kernels();
  constexpr int64_t block = 8;  // classes whose distances to all later classes are computed together
  std::vector<double> sums(static_cast<size_t>(n_classes));
  const int64_t blocks = (n_classes + block - 1) / block;
  std::atomic<int64_t> next{0};  // dynamic scheduling, since blocks get smaller; every class has a sum of its own
  threads = useful_threads(n_classes, n_classes * d / 2 + 1, threads);
  std::vector<Buffer<double>> sq_distances;
  for (int t = 0; t < threads; ++t) sq_distances.push_back(buffer<double>(block * n_classes));
  over_rows(threads, threads, 1, [&](int t, int64_t, int64_t) {
    double* sq_distance = sq_distances[static_cast<size_t>(t)].get();
    for (int64_t b = next++; b < blocks; b = next++) {
      const int64_t first = b * block, n_first = std::min(block, n_classes - first), others = n_classes - first;
      rows.distances(mean + first * d, n_first, mean + first * d, others, d, sq_distance);
      for (int64_t i = 0; i < n_first; ++i) {
        if (count[first + i] == 0) continue;
        const double own = scatter[first + i] / static_cast<double>(count[first + i]);
        for (int64_t k = i + 1; k < others; ++k) {
          if (count[first + k] == 0) continue;
          const double other = scatter[first + k] / static_cast<double>(count[first + k]);
          const double apart = sq_distance[i * others + k];
          sums[static_cast<size_t>(first + i)] +=
              apart == 0 ? std::numeric_limits<double>::infinity() : (own + other) / (2 * apart);
        }
      }
    }
  });
  const auto filled = static_cast<double>(n_classes - std::count(count, count + n_classes, 0));
  return std::accumulate(sums.begin(), sums.end(), 0.0) / (filled * (filled - 1) / 2);
}

uint64_t read(const Matrix& x, int threads) {
  const RowKernels& rows = kernels();
  threads = useful_threads(x.n, x.d, threads);
  const int64_t size = bytes_of(x.dtype);
  std::vector<uint64_t> sums(static_cast<size_t>(threads));
  over_rows(x.n, threads, 1, [&](int t, int64_t begin, int64_t end) {
    const char* data = static_cast<const char*>(x.data);
    uint64_t& sum = sums[static_cast<size_t>(t)];
    if (x.row_stride == x.d) {
      sum = rows.read(data + begin * x.d * size, (end - begin) * x.d * size);
    } else {
      for (int64_t i = begin; i < end; ++i) sum += rows.read(data + i * x.row_stride * size, x.d * size);
    }
  });
  uint64_t total = 0;
  for (uint64_t sum : sums) total += sum;
  return total;
}

}  // namespace ncharness
