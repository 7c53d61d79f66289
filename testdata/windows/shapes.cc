// Inlined functions inside of inlined functions, of classes and namespaces.
extern "C" {
extern volatile int sink;
}
namespace geometry {
struct Point {
  int x, y;
  inline __attribute__((always_inline)) int dot(const Point &o) const {
    int first = x * o.x;
    sink = first;
    return first + y * o.y;
  }
};
namespace {
inline __attribute__((always_inline)) int area(Point a, Point b) {
  int sum = a.dot(b);
  sink = sum;
  return sum + b.dot(a);
}
}
__attribute__((noinline)) int total(int n) {
  Point a{n, n + 1}, b{n + 2, 3};
  int result = 0;
  for (int i = 0; i < n; i++) {
    result += area(a, b);
    a.x = sink;
  }
  return result;
}
} // namespace geometry
extern "C" int shapes(int n) { return geometry::total(n) + 1; }
