// Threads over ranges of rows. They are started per call and own one contiguous range each: no pool outlives a call, so
// a process may fork at any time, and the partition, hence every bit of a result, depends on the thread count alone.
#pragma once

#include <algorithm>
#include <cstdint>
#include <system_error>
#include <thread>
#include <vector>

namespace ncharness {

// Below this many matrix elements a thread costs more than it saves.
constexpr int64_t elements_per_thread = 1 << 17;

inline int useful_threads(int64_t n, int64_t d, int threads) {
  return static_cast<int>(std::max<int64_t>(1, std::min<int64_t>({threads, n * d / elements_per_thread, n})));
}

// work(thread, begin, end) over rows [0, n), or columns, the calling thread taking the first range. Ranges begin at
// multiples of `step`, so that only the last group of rows is a partial one.
template <class Work>
void over_rows(int64_t n, int threads, int64_t step, const Work& work) {
  std::vector<std::thread> others;
  others.reserve(static_cast<size_t>(threads));
  const auto bound = [&](int t) { return t == threads ? n : n / threads * t / step * step; };
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

}  // namespace ncharness
