// A stack of LSTM layers, softmax and cross-entropy, trained by back-propagation through time.
// Single precision, one thread, one sequence at a time.
#pragma once

#include <string>
#include <vector>

using Vector = std::vector<float>;

struct Matrix {
    int rows = 0, columns = 0;
    Vector elements;  // row by row

    Matrix() = default;
    Matrix(int r, int c) : rows(r), columns(c), elements(std::size_t(r) * std::size_t(c)) {}
    float& operator()(int r, int c) { return elements[std::size_t(r * columns + c)]; }
    float operator()(int r, int c) const { return elements[std::size_t(r * columns + c)]; }
};

// Mistakes that can be planted, each of them one line of lstm.cpp.
enum class Mistake {
    none,
    target_minus_predicted,  // "it will be subtracted later"
    forget_uses_new_c,       // c(t) where c(t-1) belongs
    no_cell_carry,           // the cell's gradient from t+1 is not added
    no_recurrent_h,          // the four gates' gradient from t+1 is not added to h's
    cell_carry_too_early,    // c(t-1)'s gradient is taken before h's part is in
    no_squash_slope,         // tanh's derivative between c and h is forgotten
    overwritten_gradient,    // = where += belongs
    bias_leak,               // the bias neuron's gradient reaches the last input
    state_not_kept,          // every window starts from zero
    loss_not_averaged,       // the sum over the time steps
    dy_not_taken,            // only the last step has a loss: what it gives h is dh_n
    zero_skipped,            // a target whose probability rounds to 0 is left out of the error
};
Mistake mistake_named(const std::string& name);  // throws std::runtime_error

// The bias is a neuron that is always 1.0: its weights are the last column of W.
struct Gate {
    Matrix W, dW;  // hidden x (inputs + 1)
    Matrix U, dU;  // hidden x hidden

    Gate(int inputs, int hidden);
    Vector net(const Vector& x, const Vector& h) const;  // W x + U h
};

struct Step {
    Vector x;  // inputs + 1: the last is the bias neuron
    Vector h_before, c_before;
    Vector data, input, forget, output;  // the gates after their activation
    Vector c, tanh_c, h;
};

struct Layer {
    int inputs, hidden;
    Gate data, input, forget, output;
    Vector h, c;  // kept from one window to the next
    std::vector<Step> steps;

    Layer(int inputs, int hidden);
    const Vector& forward(const Vector& x);

    // from_above[t] is de/dh at step t without what comes from t+1; dh and dc are what comes from
    // beyond the last step, and on return what goes to before the first. Gives de/dx for each step.
    std::vector<Vector> backward(const std::vector<Vector>& from_above, Vector& dh, Vector& dc,
                                 Mistake mistake);
};

struct Network {
    std::vector<Layer> layers;
    bool has_output_layer;       // without: the softmax takes the top layer's h
    Matrix V, dV;                // classes x (hidden + 1), the last column for the bias neuron
    std::vector<Vector> outputs;  // the probabilities of each step

    Network(int inputs, int hidden, int num_layers, int classes, bool output_layer);

    // The top layer's h at every step.
    std::vector<Vector> forward_layers(const std::vector<Vector>& xs, Mistake mistake);

    // from_above[t] is de/dh of the top layer at step t, dh[k] and dc[k] are as for a layer. Adds
    // to dW and dU. Gives de/dx for each step.
    std::vector<Vector> backward_layers(std::vector<Vector> from_above, std::vector<Vector>& dh,
                                        std::vector<Vector>& dc, Mistake mistake);

    // The mean cross-entropy over the time steps.
    float forward(const std::vector<Vector>& xs, const std::vector<int>& targets, Mistake mistake);

    // Adds to dW, dU and dV. Each step's error counts `scale` times; dh[k], dc[k] as for a layer.
    std::vector<Vector> backward(const std::vector<int>& targets, float scale,
                                 std::vector<Vector>& dh, std::vector<Vector>& dc, Mistake mistake);
};
