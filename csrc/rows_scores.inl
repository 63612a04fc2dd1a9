// Pass 2 over a range of rows in one thread. Rows x (n, d), C active class means m_c (d,), g = the mean of the m_c:
//   dot (n, C) = -2 v . (m_c - g) with v = x - b for a base b of the row;
//   key (n, C) = ||m_c - b||^2 + dot, nearest (n,) = argmin over c of key (rows_rank.inl).
// With the Gram, b is the mean of the row's class y:
//   t (n, C) = -dot / 2, gram (C, C) += t^T t (rows_gram.inl), directional[y][c] += (t_c - t_y)^2.
// Products are computed in T: float32, or float64 for float64 features. The Gram is accumulated in float64.
//
// Blocking, from the outside in: blocks of `groups` row groups (2 lanes<T> rows each); blocks of at most block_classes
// classes, or all classes with the Gram; tiles of columns; panels of classes; row groups. The products of a tile use
// the panel kernel (rows_panels.inl) or, for few classes, the direct kernel (rows_direct.inl).
// Threads: each thread has a range of rows and its own scratch, Gram and directional sums (class_scores_cpu.cpp).
//
// Versions. The number is the run time divided by the time of one read of the matrix (n = 200k, d = 512, C = 10,
// float32, one thread, AVX-512, measured during development):
//   1.95  rows transposed and multiplied with panels of centres in float32; near ties decided in float64
//   1.60  prefetch of the next tile during the products; before, loads and arithmetic did not overlap
//   1.36  direct kernel for few classes (rows_direct.inl), without a transpose, with prefetch into L2 (prefetch into
//         L1 delays more loads: 1.75)
// A bare loop with ten products per cache line of contiguous memory takes 1.13: the number of outstanding cache line
// loads of a core is limited. With C = 100 the panel kernel reaches 130 GFLOP/s, of the 154 GFLOP/s of a large GEMM.
#pragma once

#include "rows_direct.inl"
#include "rows_gram.inl"
#include "rows_panels.inl"
#include "rows_rank.inl"

namespace ncharness {
namespace {

// Scores blocks of rows of type In in type T. The pointers are pieces of one scratch buffer.
template <class In, class T>
struct Scorer {
  static constexpr int group = group_rows<T>;
  static constexpr DotsOf<T> dots_of = dots_table<T>(std::make_integer_sequence<int, CLASSES>());

  const Matrix& x;
  const Labels& y;
  const CentreView<T>& c;
  const RowScores& out;
  int64_t n_panels, panels_per_block, max_classes;
  T* v;              // [group][column of the tile][row]: transposed rows minus base; panel kernel only
  T* keys;           // [group][class of the block][row]: dot products, without the bias
  T* norm_sq;        // [group][row]: ||v||^2
  T* sums;           // [row of the group][16]: results of the direct kernel
  Best<T>* best;     // [group][row]
  double* residual;  // [row][gram_stride]: t, for the Gram

  const In* row(int64_t i) const { return static_cast<const In*>(x.data) + i * x.row_stride; }

  // Index of the base of row i.
  int32_t base_of(int64_t i) const { return c.base_of ? c.base_of[label_at(y, i)] : 0; }

  // Row pointers and base indices of the group that starts at row `first`. A partial group repeats the last row; the
  // results of the repeated rows are not used.
  void group_of(int64_t first, int64_t end, const In** rows, int32_t* bases) const {
    for (int l = 0; l < group; ++l) {
      const int64_t i = first + l < end ? first + l : end - 1;
      rows[l] = row(i);
      bases[l] = base_of(i);
    }
  }

  // Transposes a column tile, [from, from + width), of rows [begin, end). `lone`: the tile is multiplied with a single
  // panel, so half of the prefetches of the next tile are issued here.
  void turn_groups(int64_t begin, int64_t end, int64_t from, int64_t width, const Ahead& ahead, bool lone) const {
    const In* rows[group];
    int32_t bases[group];
    for (int64_t first = begin, g = 0; first < end; first += group, ++g) {
      Fetch fetch(lone ? half_of(ahead, g, 1) : Ahead{});
      group_of(first, end, rows, bases);
      for (int half = 0; half < 2; ++half) {
        const int lane = half * lanes<T>;
        T* into = v + g * group * tile_columns + lane;
        T* norm = norm_sq + g * group + lane;
        if (c.base_of)
          turn<In, T, true>(rows + lane, bases + lane, c, from, width, fetch, into, norm);
        else
          turn<In, T, false>(rows + lane, bases + lane, c, from, width, fetch, into, norm);
      }
    }
  }

  // First class of a panel.
  int64_t class_of(int64_t panel) const { return panel_begin(panel, c.n_active, n_panels); }

  // Half of the next tile's rows that correspond to group g: the first half (which = 0) or the second (which = 1). The
  // prefetches of a group are spread over two steps: its products with the first two panels of the class block. If the
  // block has a single panel, the second half is prefetched during the transpose. Nothing is prefetched if the next
  // tile lacks some of these rows.
  static Ahead half_of(const Ahead& ahead, int64_t g, int64_t which) {
    const int64_t half = group / 2, first = g * group + which * half;
    return first + half > ahead.rows ? Ahead{}
                                     : Ahead{ahead.row + first * ahead.stride, ahead.stride, ahead.lines, half};
  }

  // Panel kernel over a column tile: keys of all row groups against panels [panel_from, panel_to).
  void score_tile(int64_t n_groups, int64_t panel_from, int64_t panel_to, int64_t from, int64_t width,
                  const Ahead& ahead) const {
    for (int64_t p = panel_from; p < panel_to; ++p) {
      const int64_t k = class_of(p), n_classes = class_of(p + 1) - k;
      const T* panel = c.packed + k * c.d + from * n_classes;
      for (int64_t g = 0; g < n_groups; ++g)
        dots_of.of[n_classes](v + g * group * tile_columns, panel, width, from > 0,
                              p - panel_from < 2 ? half_of(ahead, g, p - panel_from) : Ahead{},
                              keys + (g * max_classes + k - class_of(panel_from)) * group);
    }
  }

  // Direct kernel over a column tile: keys and norms of group g, which has rows [begin, end). The results are
  // transposed to the layout of the panel kernel.
  void score_direct(int64_t begin, int64_t end, int64_t g, int64_t from, int64_t width) const {
    constexpr int n = lanes<T>, R = direct_rows, room = 16;
    const int64_t n_classes = direct_classes(c.n_active), slots = (n_classes + n) / n * n;
    const auto score = c.base_of ? direct_of<In, T, true>(n_classes) : direct_of<In, T, false>(n_classes);
    for (int64_t i = begin; i < end; i += R) {
      const T *base[R], *rest[R];
      T* into[R];
      for (int r = 0; r < R; ++r) {
        const int32_t own = base_of(i + r < end ? i + r : i);
        base[r] = c.base + own * c.stride + from;
        rest[r] = c.base_rest + (c.base_of ? own * c.stride + from : 0);
        into[r] = sums + (i - begin + r) * room;
      }
      score(row(i) + from, i + R <= end ? x.row_stride : 0, base, rest, c.direct + from * n_classes, width, into);
    }
    T *group_keys = keys + g * max_classes * group, *norms = norm_sq + g * group;
    for (int lane = 0; lane < group; lane += n)
      for (int64_t slot = 0; slot < slots; slot += n) {
        Vec<T> square[n];
        for (int r = 0; r < n; ++r) square[r] = load_as<Vec<T>>(sums + (lane + r) * room + slot);
        transpose<T>(square);
        for (int64_t k = slot; k < slot + n; ++k) {
          T* to = k < c.n_active ? group_keys + k * group + lane : k == n_classes ? norms + lane : nullptr;
          if (to) store(to, from > 0 ? load_as<Vec<T>>(to) + square[k - slot] : square[k - slot]);
        }
      }
  }

  // The data to prefetch: the next column tile of the same rows or, after the last tile, the first tile of the next
  // rows.
  Ahead ahead_of(int64_t begin, int64_t end, int64_t last, int64_t from) const {
    int64_t first = begin, column = from + tile_columns;
    if (column >= c.d) {
      first = end;
      column = 0;
    }
    const int64_t width = c.d - column < tile_columns ? c.d - column : tile_columns;
    const int64_t size = static_cast<int64_t>(sizeof(In));
    return {reinterpret_cast<const char*>(row(first) + column), x.row_stride * size, (width * size + 63) / 64,
            last - first};
  }

  // Updates the best class of rows [begin, end) with classes [class_from, class_to).
  void rank_groups(int64_t begin, int64_t end, int64_t class_from, int64_t class_to) const {
    const In* rows[group];
    int32_t bases[group];
    Ranker<In, T> ranker = {c, class_from, class_to, nullptr, {}};
    for (int64_t first = begin, g = 0; first < end; first += group, ++g) {
      group_of(first, end, rows, bases);
      ranker.keys = keys + g * max_classes * group;
      for (int l = 0; l < group; ++l) ranker.bias[l] = c.bias + bases[l] * c.bias_stride;
      for (int lane = 0; lane < group && first + lane < end; lane += lanes<T>) {
        const int64_t left = end - first - lane;
        ranker.rank(rows, norm_sq + g * group, lane, left < lanes<T> ? static_cast<int>(left) : lanes<T>,
                    best + g * group + lane);
      }
    }
  }

  // Adds rows [begin, end) to the Gram and the directional sums. The keys hold -2 t here, without the bias. Rows of a
  // class without a finite mean contribute 0.
  void add_residuals(int64_t begin, int64_t end) const {
    constexpr int n = lanes<T>;
    const int64_t m = c.n_active, stride = gram_stride(m, LANES);
    for (int64_t first = begin; first < end; first += n)
      for (int64_t k = 0; k < stride; k += n) {
        const int64_t g = (first - begin) / group, lane = (first - begin) % group;
        Vec<T> square[n];
        for (int64_t l = 0; l < n; ++l)
          square[l] = k + l < m ? load_as<Vec<T>>(keys + (g * max_classes + k + l) * group + lane) : Vec<T>{};
        transpose<T>(square);
        for (int64_t r = 0; r < n; ++r)
          for (int64_t l = 0; l < n; ++l)
            residual[(first - begin + r) * stride + k + l] = -0.5 * static_cast<double>(square[r][l]);
      }
    for (int64_t i = begin; i < end; ++i) {
      const int64_t own = base_of(i);
      double* t = residual + (i - begin) * stride;
      if (own == m) {
        for (int64_t k = 0; k < stride; ++k) t[k] = 0;
        continue;
      }
      double* into = out.directional + own * stride;
      const Wide mine = Wide{} + t[own];
      for (int64_t k = 0; k < stride; k += LANES) {
        const Wide between = load_as<Wide>(t + k) - mine;
        store(into + k, load_as<Wide>(into + k) + between * between);
      }
    }
    add_gram(residual, end - begin, m, stride, out.gram);
  }

  // Scores one block of rows, [begin, end), against all classes. `last`: end of the thread's rows, which limits
  // prefetches.
  void score_block(int64_t begin, int64_t end, int64_t last) const {
    const int64_t n_groups = (end - begin + group - 1) / group;
    for (int64_t i = 0; i < n_groups * group; ++i) best[i] = {-1, 0};
    for (int64_t p = 0; p < n_panels; p += panels_per_block) {
      const int64_t next = p + panels_per_block < n_panels ? p + panels_per_block : n_panels;
      for (int64_t i = 0; i < n_groups * group; ++i) norm_sq[i] = 0;
      const int64_t step = c.direct ? direct_columns<T> : tile_columns;
      for (int64_t from = 0; from < c.d; from += step) {
        const int64_t width = c.d - from < step ? c.d - from : step;
        if (c.direct) {
          for (int64_t first = begin, g = 0; first < end; first += group, ++g)
            score_direct(first, first + group < end ? first + group : end, g, from, width);
          continue;
        }
        const Ahead ahead = ahead_of(begin, end, last, from);
        turn_groups(begin, end, from, width, ahead, next - p == 1);
        score_tile(n_groups, p, next, from, width, ahead);
      }
      if (out.nearest) rank_groups(begin, end, class_of(p), class_of(next));
    }
    if (out.nearest)
      for (int64_t i = begin; i < end; ++i) out.nearest[i] = best[i - begin].at < 0 ? -1 : c.active[best[i - begin].at];
    if (out.gram) add_residuals(begin, end);
  }
};

// Divides the scratch buffer and scores rows [begin, end) block by block.
template <class In, class T>
void score_rows(const Matrix& x, const Labels& y, int64_t begin, int64_t end, const CentreView<T>& c, int64_t groups,
                double* scratch, const RowScores& out) {
  const int64_t per_block = panels_at_once(c.n_active, CLASSES, out.gram);
  const int64_t n_panels = panel_count(c.n_active, CLASSES);
  Scorer<In, T> s = {x,       y,       c,       out,     n_panels, per_block, per_block * CLASSES,
                     nullptr, nullptr, nullptr, nullptr, nullptr,  scratch};
  const int64_t rows = groups * group_rows<T>;
  s.best = reinterpret_cast<Best<T>*>(s.residual + (out.gram ? rows * gram_stride(c.n_active, LANES) : 0));
  s.v = reinterpret_cast<T*>(s.best + rows);
  s.keys = s.v + (c.direct ? 0 : rows * tile_columns);
  s.norm_sq = s.keys + rows * s.max_classes;
  s.sums = s.norm_sq + rows;
  for (int64_t from = begin; from < end; from += rows) s.score_block(from, end - from < rows ? end : from + rows, end);
}

}  // namespace
}  // namespace ncharness
