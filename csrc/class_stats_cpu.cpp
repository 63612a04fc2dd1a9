// The two passes on the CPU: preparation, threads, and the merge of their partial sums in a fixed order.
//
// Threads are started per call and own one contiguous range of rows each. No pool outlives a call, so a
// process may fork at any time, and the partition, hence every bit of the result, depends on the thread count
// alone.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "class_stats.hpp"
#include "rows.hpp"

namespace ncharness {
namespace {

std::vector<const RowKernels*> available() {
  std::vector<const RowKernels*> found;
#ifdef NCHARNESS_X86_LEVELS
  if (__builtin_cpu_supports("avx512f")) found.push_back(&rows_avx512);
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) found.push_back(&rows_avx2);
#endif
  found.push_back(&rows_portable);
  return found;
}

std::atomic<const RowKernels*>& kernels() {
  static std::atomic<const RowKernels*> chosen{available().front()};
  return chosen;
}

// Below this many matrix elements a thread costs more than it saves.
constexpr int64_t elements_per_thread = 1 << 16;

// And every thread has sums of its own for every class, to be set to zero and merged: it needs more rows than that.
int useful_threads(int64_t n, int64_t d, int64_t n_classes, int threads) {
  const int64_t wanted = std::min(n * d / elements_per_thread, n / n_classes);
  return static_cast<int>(std::max<int64_t>(1, std::min<int64_t>({threads, wanted, n})));
}

// work(thread, begin, end) over the rows, the calling thread taking the first range.
template <class Work>
void over_rows(int64_t n, int threads, const Work& work) {
  std::vector<std::thread> others;
  others.reserve(static_cast<size_t>(threads));
  const auto bound = [&](int t) { return n * t / threads; };
  for (int t = 1; t < threads; ++t) {
    try {
      others.emplace_back([&, t] { work(t, bound(t), bound(t + 1)); });
    } catch (const std::system_error&) {
      work(t, bound(t), bound(t + 1));  // the system has no thread to give: same ranges, same bits, later
    }
  }
  work(0, bound(0), bound(1));
  for (std::thread& other : others) other.join();
}

// into += partial[0], then partial[1], ...: `size` elements each.
template <class T>
void merge_partials(const std::vector<std::vector<T>>& partial, T* into, int64_t size) {
  for (const std::vector<T>& part : partial)
    for (int64_t i = 0; i < size; ++i) into[i] += part[static_cast<size_t>(i)];
}

template <class T>
std::vector<std::vector<T>> partials(int threads, int64_t size) {
  return std::vector<std::vector<T>>(static_cast<size_t>(threads), std::vector<T>(static_cast<size_t>(size)));
}

// What Centres points into.
struct CentreTable {
  std::vector<double> shift, centred, sq_norm, cross;
  std::vector<int64_t> active, active_of;
};

CentreTable prepare(const double* mean, int64_t n_classes, int64_t d, bool gram) {
  CentreTable table;
  table.active_of.assign(static_cast<size_t>(n_classes), -1);
  for (int64_t c = 0; c < n_classes; ++c) {
    const double* m = mean + c * d;
    if (!std::all_of(m, m + d, [](double v) { return std::isfinite(v); })) continue;
    table.active_of[static_cast<size_t>(c)] = static_cast<int64_t>(table.active.size());
    table.active.push_back(c);
  }
  const size_t m = table.active.size(), width = static_cast<size_t>(d);
  table.shift.assign(width, 0);
  for (int64_t c : table.active)
    for (size_t j = 0; j < width; ++j) table.shift[j] += mean[c * d + static_cast<int64_t>(j)] / static_cast<double>(m);
  table.centred.resize(m * width);
  table.sq_norm.assign(m, 0);
  for (size_t k = 0; k < m; ++k)
    for (size_t j = 0; j < width; ++j) {
      const double a = mean[table.active[k] * d + static_cast<int64_t>(j)] - table.shift[j];
      table.centred[k * width + j] = a;
      table.sq_norm[k] += a * a;
    }
  if (gram) {
    table.cross.resize(m * m);
    for (size_t b = 0; b < m; ++b)
      for (size_t c = 0; c < m; ++c) {
        double dot = 0;
        for (size_t j = 0; j < width; ++j) dot += table.centred[b * width + j] * table.centred[c * width + j];
        table.cross[b * m + c] = dot;
      }
  }
  return table;
}

// From the (n_active, n_active) partial sums to the (C, C) outputs; what has no mean stays 0.
void scatter_gram(const std::vector<std::vector<double>>& grams, const std::vector<std::vector<double>>& directionals,
                  const CentreTable& table, int64_t n_classes, const ClassScores& out) {
  const size_t m = table.active.size();
  std::vector<double> gram(m * m), directional(m * m);
  merge_partials(grams, gram.data(), static_cast<int64_t>(m * m));
  merge_partials(directionals, directional.data(), static_cast<int64_t>(m * m));
  std::fill_n(out.gram, n_classes * n_classes, 0.0);
  std::fill_n(out.directional, n_classes * n_classes, 0.0);
  for (size_t k = 0; k < m; ++k)
    for (size_t l = 0; l < m; ++l) {
      const int64_t at = table.active[k] * n_classes + table.active[l];
      out.gram[at] = gram[std::min(k, l) * m + std::max(k, l)];
      out.directional[at] = directional[k * m + l];
    }
}

}  // namespace

std::vector<const char*> levels() {
  std::vector<const char*> names;
  for (const RowKernels* each : available()) names.push_back(each->name);
  return names;
}

const char* level() { return kernels().load()->name; }

void set_level(const char* name) {
  for (const RowKernels* each : available())
    if (std::string(each->name) == name) {
      kernels() = each;
      return;
    }
  throw std::invalid_argument("level: this processor or this build has no '" + std::string(name) + "'");
}

int64_t first_bad_label(Labels y, int64_t n, int64_t n_classes) {
  const int64_t* bad = std::find_if(y, y + n, [=](int64_t label) { return label < 0 || label >= n_classes; });
  return bad == y + n ? -1 : bad - y;
}

void class_sums(const Matrix& x, Labels y, int64_t n_classes, int threads, const ClassSums& out) {
  const RowKernels& rows = *kernels().load();
  threads = useful_threads(x.n, x.d, n_classes, threads);
  std::fill_n(out.count, n_classes, int64_t{0});
  std::fill_n(out.sum, n_classes * x.d, 0.0);
  // The first thread sums into the output, the others into buffers of their own.
  auto counts = partials<int64_t>(threads - 1, n_classes);
  auto sums = partials<double>(threads - 1, n_classes * x.d);
  over_rows(x.n, threads, [&](int t, int64_t begin, int64_t end) {
    const size_t own = static_cast<size_t>(t) - 1;
    int64_t* count = t == 0 ? out.count : counts[own].data();
    double* sum = t == 0 ? out.sum : sums[own].data();
    if (x.dtype == DType::float32)
      rows.sum_f32(static_cast<const float*>(x.data), x.row_stride, x.d, y, begin, end, count, sum);
    else
      rows.sum_f64(static_cast<const double*>(x.data), x.row_stride, x.d, y, begin, end, count, sum);
  });
  merge_partials(counts, out.count, n_classes);
  merge_partials(sums, out.sum, n_classes * x.d);
}

void class_scores(const Matrix& x, Labels y, int64_t n_classes, const double* mean, int threads,
                  const ClassScores& out) {
  const RowKernels& rows = *kernels().load();
  threads = useful_threads(x.n, x.d, n_classes, threads);
  const bool gram = out.gram != nullptr;
  const CentreTable table = prepare(mean, n_classes, x.d, gram);
  const int64_t m = static_cast<int64_t>(table.active.size());
  const Centres centres = {n_classes,
                           x.d,
                           mean,
                           table.shift.data(),
                           m,
                           table.active.data(),
                           table.centred.data(),
                           table.sq_norm.data(),
                           table.active_of.data(),
                           gram ? table.cross.data() : nullptr};
  auto scratch = partials<double>(threads, scratch_size(m));
  auto scatters = partials<double>(threads, y ? n_classes : 0);
  auto grams = partials<double>(threads, gram ? m * m : 0);
  auto directionals = partials<double>(threads, gram ? m * m : 0);
  over_rows(x.n, threads, [&](int t, int64_t begin, int64_t end) {
    const size_t own = static_cast<size_t>(t);
    const RowScores into = {out.nearest, scatters[own].data(), gram ? grams[own].data() : nullptr,
                            gram ? directionals[own].data() : nullptr};
    if (x.dtype == DType::float32)
      rows.score_f32(static_cast<const float*>(x.data), x.row_stride, y, begin, end, centres, scratch[own].data(),
                     into);
    else
      rows.score_f64(static_cast<const double*>(x.data), x.row_stride, y, begin, end, centres, scratch[own].data(),
                     into);
  });
  if (y) {
    std::fill_n(out.scatter, n_classes, 0.0);
    merge_partials(scatters, out.scatter, n_classes);
  }
  if (gram) scatter_gram(grams, directionals, table, n_classes, out);
}

}  // namespace ncharness
