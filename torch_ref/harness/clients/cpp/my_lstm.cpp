// my_lstm CASE RESULT: a case in, the loss and every gradient out. So far it answers with zeros.
//
//   c++ -std=c++17 -O2 my_lstm.cpp -o my_lstm
//   manual-lstm check --command "./my_lstm {case} {result}"               softmax and loss inside
//   manual-lstm check --command "./my_lstm {case} {result}" --head none   given dy, writes y
//
// Put your LSTM into your_lstm() below. What the arrays are is at the top of manual_lstm.hpp.
#include <cstdio>
#include <exception>
#include <map>
#include <string>

#include "manual_lstm.hpp"

using Real = float;  // or double, with cases in float64
using Arrays = std::map<std::string, manual_lstm::Array<Real>>;

// Copy the weights out of `given`, run forward and backward, and overwrite the zeros in `result`.
// For instance the bias of layer 0's forget gate, unit j, of H units:
//     given.at("bias_l0")(H + j)              its value
//     result.at("dbias_l0")(H + j) = ...      its gradient
// With `--head linear` or `bounded`: `targets` (T, B) are class numbers, and "loss" is a result.
// With `--head none` there are none: "dy" is given, and "y", the top layer's h, is a result.
// A result that you do not compute, of h_n, c_n, dx, dh0 and dc0, you take out: result.erase("dx").
void your_lstm(const Arrays& given, const manual_lstm::Array<int>& targets, Arrays& result) {
    (void)given, (void)targets, (void)result;
}

void run(const std::string& case_folder, const std::string& result_folder) {
    manual_lstm::check_case(case_folder);
    Arrays given, result;
    auto read_with_gradient = [&](const std::string& name) {
        given[name] = manual_lstm::read<Real>(case_folder, name);
        result["d" + name] = manual_lstm::Array<Real>(given[name].shape);
    };
    for (const char* name : {"x", "h0", "c0"}) read_with_gradient(name);
    for (std::size_t k = 0; k < given["h0"].shape[0]; ++k)
        for (const char* name : {"weight_ih_l", "weight_hh_l", "bias_l"})
            read_with_gradient(name + std::to_string(k));
    for (const char* name : {"weight_out", "bias_out"})
        if (manual_lstm::has(case_folder, name)) read_with_gradient(name);
    for (const char* name : {"dh_n", "dc_n"}) {
        given[name] = manual_lstm::read<Real>(case_folder, name);
        result[name + 1] = manual_lstm::Array<Real>(given[name].shape);  // h_n, c_n
    }
    manual_lstm::Array<int> targets;
    if (manual_lstm::has(case_folder, "targets")) {
        targets = manual_lstm::read<int>(case_folder, "targets");
        given["dloss"] = manual_lstm::read<Real>(case_folder, "dloss");
        result["loss"] = manual_lstm::Array<Real>();
    } else {
        given["dy"] = manual_lstm::read<Real>(case_folder, "dy");
        result["y"] = manual_lstm::Array<Real>(given["dy"].shape);
    }

    your_lstm(given, targets, result);

    manual_lstm::begin_result(result_folder);
    for (const auto& [name, array] : result) manual_lstm::write(result_folder, name, array);
    manual_lstm::finish_result(result_folder);
}

int main(int argc, char** argv) {
    if (argc != 3) {
        std::fprintf(stderr, "usage: %s CASE RESULT\n", argv[0]);
        return 2;
    }
    try {
        run(argv[1], argv[2]);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s: %s\n", argv[0], error.what());
        return 1;
    }
}
