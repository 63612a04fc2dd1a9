// Pass 2, ranking: the nearest class of each row from its keys,
//   key[c] = ||m_c - base||^2 - 2 v . (m_c - g),  nearest = argmin over c of key[c].
// The rounding error of a key is at most half of margin = offset + slope ||v|| (class_scores_cpu.cpp). If the two
// smallest keys of a row differ by more than the margin, the argmin is certain. Otherwise the squared distances to the
// candidates, ||x - m_c||^2, are computed in float64 and decide; the lowest index wins ties.
//
// Blocking: one vector of rows at a time (a SIMD lane is a row), over one block of classes; the best class is carried
// from block to block. Threads: none here; each thread has its own rows (class_scores_cpu.cpp).
#pragma once

#include "rows_panels.inl"

namespace ncharness {
namespace {

// ||row - mean||^2 over d columns, in float64.
template <class In>
double sq_distance(const In* row, const double* mean, int64_t d) {
  Wide sum = {};
  int64_t j = 0;
  for (; j + LANES <= d; j += LANES) {
    const Wide difference = to_wide(row + j) - load_as<Wide>(mean + j);
    sum += difference * difference;
  }
  for (; j < d; ++j) {
    const double difference = static_cast<double>(value(row + j)) - mean[j];
    sum[0] += difference * difference;
  }
  return total(sum);
}

// The square of a smaller number may underflow and be inaccurate.
template <class T>
constexpr T smallest_square = static_cast<T>(sizeof(T) == 4 ? 0x1p-62 : 0x1p-510);

// Best class of a row over the blocks of classes so far.
template <class T>
struct Best {
  int64_t at;  // index among the active classes; -1: none yet
  T key;
};

template <class In, class T>
struct Ranker {
  const CentreView<T>& c;
  int64_t from, to;              // the block of classes, as indices among the active classes
  const T* keys;                 // [class of the block][row of the group]: dot products, without the bias
  const T* bias[group_rows<T>];  // [row of the group][class]: ||m_c - base||^2 with the base of the row

  T key(int64_t k, int lane) const { return bias[lane][k] + keys[(k - from) * group_rows<T> + lane]; }

  // Squared distance of a row to active class k, in float64.
  double distance(const In* row, int64_t k) const { return sq_distance(row, c.mean + c.active[k] * c.d, c.d); }

  // The nearest class by float64 distances, among the classes of the block whose key is at most `limit`. A NaN key
  // counts as a candidate. Returns -1 if there is no candidate with a finite distance.
  int64_t nearest_of_close(const In* row, int lane, T limit) const {
    int64_t nearest = -1;
    double least = __builtin_inf();
    for (int64_t k = from; k < to; ++k) {
      if (key(k, lane) > limit) continue;
      const double here = distance(row, k);
      if (here != here) return -1;  // NaN: the means are finite, so the row is not
      if (here < least) {
        least = here;
        nearest = k;
      }
    }
    return nearest;
  }

  // Updates `best` with the result of this block. `at` has the smallest key of the block, `least`. `clear`: the second
  // smallest key is larger by more than the margin, so `at` is certain within the block.
  void settle(const In* row, int lane, int64_t at, T least, bool clear, T margin, Best<T>& best) const {
    if (best.at >= 0 && least > best.key + margin) return;
    if (!clear) {
      at = nearest_of_close(row, lane, least + margin);
      if (at < 0) return;
      least = key(at, lane);
    }
    if (best.at >= 0 && !(least < best.key - margin) && !(distance(row, at) < distance(row, best.at))) return;
    best = {at, least};
  }

  // Ranks one vector of rows, starting at row `first_lane` of the group. Only the first `used` lanes hold rows.
  void rank(const In* const* rows, const T* norm_sq, int first_lane, int used, Best<T>* best) const {
    constexpr int n = lanes<T>;
    using Int = decltype(Vec<T>{} < Vec<T>{});
    using I = decltype(total(Int{}));
    Vec<T> least = Vec<T>{} + static_cast<T>(__builtin_inf()), second = least;
    Int at = {};
    // Finds the smallest and the second smallest key of each lane.
    const auto consider = [&](int64_t k, Vec<T> of) {
      const Vec<T> here = load_as<Vec<T>>(keys + (k - from) * group_rows<T> + first_lane) + of;
      const Int less = here < least;
      const Vec<T> other = less ? least : here;
      second = other < second ? other : second;
      at = less ? Int{} + static_cast<I>(k) : at;
      least = less ? here : least;
    };
    if (c.base_of) {
      for (int64_t first = from; first < to; first += n) {
        Vec<T> square[n];
        for (int l = 0; l < n; ++l) square[l] = load_as<Vec<T>>(bias[first_lane + l] + first);
        transpose<T>(square);
        for (int64_t k = first; k < first + n && k < to; ++k) consider(k, square[k - first]);
      }
    } else {
      for (int64_t k = from; k < to; ++k) consider(k, Vec<T>{} + c.bias[k]);
    }
    // clear: gap > slope ||v||, compared as squares to avoid a square root per lane.
    const Vec<T> gap = (second - least) - c.offset;
    const Vec<T> reach = load_as<Vec<T>>(norm_sq + first_lane) * (c.slope * c.slope);
    const Int clear = (gap > smallest_square<T>)&(gap * gap > reach);
    I all_clear = -1;
    for (int l = 0; l < n; ++l) all_clear &= clear[l];
    if (from == 0 && all_clear) {
      for (int l = 0; l < used; ++l) best[l] = {at[l], least[l]};
      return;
    }
    for (int l = 0; l < used; ++l) {
      if (clear[l] && best[l].at < 0 && from == 0) {
        best[l] = {at[l], least[l]};
        continue;
      }
      const T margin =
          c.offset + c.slope * static_cast<T>(__builtin_sqrt(static_cast<double>(norm_sq[first_lane + l])));
      settle(rows[first_lane + l], first_lane + l, at[l], least[l], clear[l], margin, best[l]);
    }
  }
};

}  // namespace
}  // namespace ncharness
