// An exception that nobody catches, through std::terminate and abort.
#include "victim.h"
#include <stdexcept>
#include <vector>

struct ParseError : std::runtime_error {
    ParseError(const std::string &what, int line) : std::runtime_error(what), line(line) {}
    int line;
};

NOINLINE int parse(const std::vector<int> &tokens, std::size_t at) {
    if (at == tokens.size()) {
        reached();
        throw ParseError("unexpected end", static_cast<int>(at));
    }
    return tokens[at] + parse(tokens, at + 1);
}

int main(int argc, char **argv) {
    victim_start(argc, argv);
    std::vector<int> tokens{1, 2, argc};
    return parse(tokens, 0);
}
