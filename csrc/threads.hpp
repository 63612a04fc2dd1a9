// Parallel loops over ranges of rows. The rows are partitioned statically into one contiguous range per thread. The
// partition depends only on n, the thread count and the step, not on which thread processes a range. Results are
// therefore reproducible to the bit for a given thread count.
#pragma once

#include <algorithm>
#include <cstdint>

namespace ncharness {

// A thread is worth its overhead only if it has at least this many matrix elements to process.
constexpr int64_t elements_per_thread = 1 << 16;

// Number of threads for a matrix (n, d): at most `threads`, at least 1.
inline int useful_threads(int64_t n, int64_t d, int threads) {
  return static_cast<int>(std::max<int64_t>(1, std::min<int64_t>({threads, n * d / elements_per_thread, n})));
}

// Calls part(context, i) for i in [0, parts), in parallel, and returns when all have ended. The calling thread and pool
// workers share the parts. Any number of threads may call at the same time; a forked child may call too. If parts
// throw, rethrows the first exception after all parts have ended.
void run_parts(int parts, void (*part)(const void* context, int index), const void* context);

// Calls work(thread, begin, end) for a partition of [0, n) into `threads` ranges, in parallel. The index may count
// rows, columns or anything else. Ranges begin at multiples of `step`, so that only the last range can have a partial
// group at its end. Ranges may be empty.
template <class Work>
void over_rows(int64_t n, int threads, int64_t step, const Work& work) {
  const auto range = [&](int t) {
    const auto bound = [&](int at) { return at == threads ? n : n / threads * at / step * step; };
    work(t, bound(t), bound(t + 1));
  };
  using Range = decltype(range);
  run_parts(threads, [](const void* context, int t) { (*static_cast<const Range*>(context))(t); }, &range);
}

}  // namespace ncharness
