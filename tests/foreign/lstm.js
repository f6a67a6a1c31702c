// An LSTM in JavaScript, without a library: one layer, one sequence at a time, lists of numbers.
"use strict";

const sigmoid = (z) => 1 / (1 + Math.exp(-z));
const zeros = (n, m) => Array.from({ length: n }, () => new Array(m).fill(0));

// Rows of W, U and b in blocks i, f, g, o. x is T lists of I numbers.
function forward(W, U, b, x, h0, c0) {
  const H = h0.length;
  const steps = [];
  let h = h0;
  let c = c0;
  for (const x_t of x) {
    const z = b.map((b_j, j) => {
      let sum = b_j;
      x_t.forEach((value, k) => (sum += W[j][k] * value));
      h.forEach((value, k) => (sum += U[j][k] * value));
      return sum;
    });
    const s = { x: x_t, h_before: h, c_before: c };
    s.i = z.slice(0, H).map(sigmoid);
    s.f = z.slice(H, 2 * H).map(sigmoid);
    s.g = z.slice(2 * H, 3 * H).map(Math.tanh);
    s.o = z.slice(3 * H).map(sigmoid);
    c = s.f.map((f, j) => f * s.c_before[j] + s.i[j] * s.g[j]);
    s.tanh_c = c.map(Math.tanh);
    h = s.o.map((o, j) => o * s.tanh_c[j]);
    s.h = h;
    steps.push(s);
  }
  return { steps, h, c };
}

function backward(W, U, steps, dy, dh_n, dc_n) {
  const H = dh_n.length;
  const I = W[0].length;
  const dW = zeros(4 * H, I);
  const dU = zeros(4 * H, H);
  const db = new Array(4 * H).fill(0);
  const dx = zeros(steps.length, I);
  let dh = dh_n.slice();
  let dc = dc_n.slice();
  for (let t = steps.length - 1; t >= 0; t--) {
    const s = steps[t];
    const dz = new Array(4 * H);
    for (let j = 0; j < H; j++) {
      const dh_j = dh[j] + dy[t][j];
      const dc_j = dc[j] + dh_j * s.o[j] * (1 - s.tanh_c[j] ** 2);
      dz[j] = dc_j * s.g[j] * s.i[j] * (1 - s.i[j]);
      dz[H + j] = dc_j * s.c_before[j] * s.f[j] * (1 - s.f[j]);
      dz[2 * H + j] = dc_j * s.i[j] * (1 - s.g[j] ** 2);
      dz[3 * H + j] = dh_j * s.tanh_c[j] * s.o[j] * (1 - s.o[j]);
      dc[j] = dc_j * s.f[j];
    }
    dh = new Array(H).fill(0);
    for (let r = 0; r < 4 * H; r++) {
      db[r] += dz[r];
      for (let k = 0; k < I; k++) {
        dW[r][k] += dz[r] * s.x[k];
        dx[t][k] += dz[r] * W[r][k];
      }
      for (let k = 0; k < H; k++) {
        dU[r][k] += dz[r] * s.h_before[k];
        dh[k] += dz[r] * U[r][k];
      }
    }
  }
  return { dW, dU, db, dx, dh, dc };
}

module.exports = { forward, backward };
