// node my_lstm.js CASE RESULT: a case in, y or the loss and every gradient out. So far it answers
// with zeros.
//
//   manual-lstm check --command "node my_lstm.js {case} {result}"               softmax, loss inside
//   manual-lstm check --command "node my_lstm.js {case} {result}" --head none   given dy, writes y
//
// Put your LSTM into yourLstm() below. What the arrays are is at the top of manual_lstm.js.
"use strict";
const { readCase, blankResult, writeResult } = require("./manual_lstm.js");

// Copy the weights out of `arrays`, run forward and backward, and overwrite the zeros in `result`.
// For instance the bias of layer 0's forget gate, unit j, of H units:
//     arrays.bias_l0.data[H + j]               its value
//     result.dbias_l0.data[H + j] = ...        its gradient
// With `--head linear` or `bounded`: `targets` (T, B) are class numbers, and "loss" is a result.
// With `--head none` there are none: "dy" is given, and "y", the top layer's h, is a result.
// A result that you do not compute, of h_n, c_n, dx, dh0 and dc0, you take out: delete result.dx.
// What is for one layer, or one sequence, throws where it is given more: not verified, then.
function yourLstm({ sizes, arrays }, result) {}

const [, , from, to] = process.argv;
const given = readCase(from);
const result = blankResult(given);
yourLstm(given, result);
writeResult(to, given, result);
