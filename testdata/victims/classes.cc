// Classes: inheritance, also multiple and virtual, references, member pointers, templates, statics, unions, lambdas.
#include "victim.h"
#include <cstddef>

enum class Mode : unsigned char { Off, On, Auto = 7 };
enum class Far : long long { Low = -9000000000LL, High = 9000000000LL };

struct Base {
    int base_value = 1;
    virtual ~Base() = default;
    virtual int kind() const { return 1; }
};
struct Left : virtual Base {
    int left_value = 2;
    int kind() const override { return 2; }
};
struct Right : virtual Base {
    int right_value = 3;
};
struct Bottom final : Left, Right {
    int bottom_value = 4;
    static int instances;
    int kind() const override { return 4; }
};
int Bottom::instances = 17;

struct Plain {
    int a = 10;
};
struct Other {
    char tag = 't';
};
class Derived : public Plain, protected Other {
public:
    Mode mode = Mode::Auto;
    Derived() : low(9), high(true) {}
    int method(int x) const { return x + a; }

private:
    double secret = 0.5;
    mutable unsigned low : 4;
    bool : 3;
    bool high : 1;
};

struct Empty {};
template <typename T, typename U = Empty> struct Box : private U {
    T value;
    explicit Box(T v) : value(v) {}
};

union Either {
    int number;
    Plain plain;
    Either() : number(77) {}
};

struct Self {
    Self *me;
    Self &other;
    int id;
};

namespace deep::er {
struct Named {
    struct Nested {
        int n = 5;
    } nested;
    using Alias = Nested;
};
} // namespace deep::er

NOINLINE int inspect(const Base &base, Derived &derived, Plain &&rvalue, const Box<Box<int>> &box, int Derived::*field,
                     int (Derived::*method)(int) const, Mode mode) {
    const Base *pointer = &base;
    Bottom bottom;
    Left *left = &bottom;
    Either either;
    Self two{nullptr, two, 2}, one{&one, two, 1};
    Far far = Far::High;
    Mode unknown = static_cast<Mode>(3);
    deep::er::Named named;
    deep::er::Named::Alias alias;
    struct Local {
        int l = 3;
    } local;
    std::nullptr_t null = nullptr;
    char16_t utf16 = u'\u20ac';
    char32_t utf32 = U'\U0001F600';
    const char16_t *text16 = u"zw\u00f6lf";
    int array[3] = {1, 2, 3};
    int(&array_reference)[3] = array;
    Plain plains[2];
    auto lambda = [&derived, copy = mode](int x) { return derived.a + static_cast<int>(copy) + x; };
    KEEP(pointer); KEEP(bottom); KEEP(left); KEEP(either); KEEP(one); KEEP(two); KEEP(far); KEEP(unknown); KEEP(named);
    KEEP(alias); KEEP(local); KEEP(null); KEEP(utf16); KEEP(utf32); KEEP(text16); KEEP(array_reference); KEEP(plains);
    KEEP(lambda); KEEP(rvalue); KEEP(box);
    int r = derived.*field + (derived.*method)(2) + lambda(3) + array_reference[1];
    KEEP(r);
    finish();
    return r + base.kind() + static_cast<int>(mode);
}

int main(int argc, char **argv) {
    victim_start(argc, argv);
    Bottom bottom;
    Derived derived;
    derived.a += argc;
    return inspect(bottom, derived, Plain{}, Box<Box<int>>(Box<int>(6)), &Derived::a, &Derived::method, Mode::On);
}
