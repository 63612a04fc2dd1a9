// Threads over ranges of rows. A call owns one contiguous range for each of its threads, whoever comes to work on it,
// so the partition, hence every bit of a result, depends on the thread count alone.
#pragma once

#include <algorithm>
#include <cstdint>

namespace ncharness {

// Below this many matrix elements a thread costs more than it saves.
constexpr int64_t elements_per_thread = 1 << 16;

inline int useful_threads(int64_t n, int64_t d, int threads) {
  return static_cast<int>(std::max<int64_t>(1, std::min<int64_t>({threads, n * d / elements_per_thread, n})));
}

// part(context, 0), ... part(context, parts - 1), side by side, in the calling thread and threads kept from call to
// call. Any number of threads may call at the same time, and a forked child may call too. Throws the first exception
// that a part threw, once all have ended.
void run_parts(int parts, void (*part)(const void* context, int index), const void* context);

// work(thread, begin, end) over rows [0, n), or columns. Ranges begin at multiples of `step`, so that only the last
// group of rows is a partial one.
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
