// Inlined functions within inlined functions, lambdas, templates, operators and names from every kind of namespace.
#include "victim.h"

namespace outer {
inline namespace v2 {
template <typename T, int N> struct Matrix {
    T cells[N] = {};
    T at(int i) const;
    NOINLINE T operator()(int i) const;
    NOINLINE Matrix &operator+=(const Matrix &other);
};
template <typename T, int N> __attribute__((always_inline)) inline T Matrix<T, N>::at(int i) const {
    T value = cells[i];
    finish();
    return value;
}
template <typename T, int N> T Matrix<T, N>::operator()(int i) const {
    T before = 1;
    KEEP(before);
    T got = at(i) + before;
    KEEP(got);
    return got;
}
template <typename T, int N> Matrix<T, N> &Matrix<T, N>::operator+=(const Matrix &other) {
    for (int i = 0; i < N; i++)
        cells[i] += other(i);
    KEEP(cells);
    return *this;
}
} // namespace v2
} // namespace outer

namespace {
struct Hidden {
    int weight;
    static NOINLINE int run(Hidden hidden, outer::Matrix<int, 4> &m) {
        m += m;
        KEEP(hidden);
        return hidden.weight + m.cells[0];
    }
};

INLINE int level_three(Hidden h, outer::Matrix<int, 4> &m) {
    int three = h.weight + 3;
    KEEP(three);
    int r = Hidden::run(h, m);
    KEEP(r);
    return r + three;
}
INLINE int level_two(int n, outer::Matrix<int, 4> &m) {
    Hidden h{n * 2};
    int r = level_three(h, m);
    KEEP(r);
    return r + h.weight;
}
} // namespace

INLINE int level_one(int n, outer::Matrix<int, 4> &m) {
    int one = n + 1;
    KEEP(one);
    int r = level_two(one, m);
    KEEP(r);
    return r;
}

int main(int argc, char **argv) {
    victim_start(argc, argv);
    outer::Matrix<int, 4> m;
    m.cells[0] = argc;
    auto call = [&m, argc](int extra) __attribute__((noinline)) {
        int r = level_one(extra + argc, m);
        KEEP(r);
        return r;
    };
    int result = call(10);
    KEEP(result);
    return result;
}
