// A stack of LSTM layers for the client in Rust: given dy, every gradient. Rows of W, U and b in
// blocks i, f, g, o.

use crate::{Array, Arrays, Real};

struct Step {
    gates: Vec<[Real; 4]>, // i, f, g, o of each unit
    tanh_c: Vec<Real>,
}

fn sigmoid(z: Real) -> Real {
    1.0 / (1.0 + (-z).exp())
}

pub fn lstm(given: &Arrays, result: &mut Arrays) {
    let (layers, batch) = (given["h0"].shape[0], given["h0"].shape[1]);
    for b in 0..batch {
        one_sequence(given, result, layers, b);
    }
}

fn one_sequence(given: &Arrays, result: &mut Arrays, layers: usize, b: usize) {
    let x = &given["x"];
    let (steps, hidden) = (x.shape[0], given["h0"].shape[2]);
    let of_x = |t: usize| (0..x.shape[2]).map(|j| x[[t, b, j]]).collect::<Vec<Real>>();
    let mut below: Vec<Vec<Real>> = (0..steps).map(of_x).collect();
    let mut tapes = Vec::new();
    for k in 0..layers {
        let state = |name: &str| (0..hidden).map(|j| given[name][[k, b, j]]).collect::<Vec<Real>>();
        let (inputs, hs, cs, tape) = forward(given, k, below, state("h0"), state("c0"));
        for j in 0..hidden {
            result.get_mut("h_n").unwrap()[[k, b, j]] = hs[steps][j];
            result.get_mut("c_n").unwrap()[[k, b, j]] = cs[steps][j];
        }
        below = hs[1..].to_vec();
        tapes.push((inputs, hs, cs, tape));
    }
    let mut above = vec![vec![0.0; hidden]; steps];
    for t in 0..steps {
        for j in 0..hidden {
            result.get_mut("y").unwrap()[[t, b, j]] = below[t][j];
            above[t][j] = given["dy"][[t, b, j]];
        }
    }
    for (k, (inputs, hs, cs, tape)) in tapes.iter().enumerate().rev() {
        above = backward(given, result, k, b, above, inputs, hs, cs, tape);
    }
    for (t, row) in above.iter().enumerate() {
        for (j, &value) in row.iter().enumerate() {
            result.get_mut("dx").unwrap()[[t, b, j]] = value;
        }
    }
}

type Tape = (Vec<Vec<Real>>, Vec<Vec<Real>>, Vec<Vec<Real>>, Vec<Step>);

fn forward(given: &Arrays, k: usize, x: Vec<Vec<Real>>, h0: Vec<Real>, c0: Vec<Real>) -> Tape {
    let (w, u) = (&given[&format!("weight_ih_l{k}")], &given[&format!("weight_hh_l{k}")]);
    let bias = &given[&format!("bias_l{k}")];
    let hidden = h0.len();
    let (mut hs, mut cs, mut tape) = (vec![h0], vec![c0], Vec::new());
    for (t, x_t) in x.iter().enumerate() {
        let (mut gates, mut h, mut c, mut tanh_c) = (vec![], vec![], vec![], vec![]);
        for j in 0..hidden {
            let z = |gate: usize| {
                let row = gate * hidden + j;
                let of_x: Real = x_t.iter().enumerate().map(|(n, v)| w[[row, n]] * v).sum();
                let of_h: Real = hs[t].iter().enumerate().map(|(n, v)| u[[row, n]] * v).sum();
                of_x + of_h + bias[[row]]
            };
            let [i, f, g, o] = [sigmoid(z(0)), sigmoid(z(1)), z(2).tanh(), sigmoid(z(3))];
            c.push(f * cs[t][j] + i * g);
            tanh_c.push(c[j].tanh());
            h.push(o * tanh_c[j]);
            gates.push([i, f, g, o]);
        }
        hs.push(h);
        cs.push(c);
        tape.push(Step { gates, tanh_c });
    }
    (x, hs, cs, tape)
}

#[allow(clippy::too_many_arguments)]
fn backward(
    given: &Arrays,
    result: &mut Arrays,
    k: usize,
    b: usize,
    dy: Vec<Vec<Real>>,
    x: &[Vec<Real>],
    hs: &[Vec<Real>],
    cs: &[Vec<Real>],
    tape: &[Step],
) -> Vec<Vec<Real>> {
    let (w, u) = (&given[&format!("weight_ih_l{k}")], &given[&format!("weight_hh_l{k}")]);
    let hidden = hs[0].len();
    let state = |name: &str| (0..hidden).map(|j| given[name][[k, b, j]]).collect::<Vec<Real>>();
    let (mut dh, mut dc) = (state("dh_n"), state("dc_n"));
    let mut dx = vec![vec![0.0; x[0].len()]; x.len()];
    for t in (0..x.len()).rev() {
        let step = &tape[t];
        let mut dz = vec![0.0; 4 * hidden];
        for j in 0..hidden {
            let [i, f, g, o] = step.gates[j];
            dh[j] += dy[t][j];
            dc[j] += dh[j] * o * (1.0 - step.tanh_c[j] * step.tanh_c[j]);
            dz[j] = dc[j] * g * i * (1.0 - i);
            dz[hidden + j] = dc[j] * cs[t][j] * f * (1.0 - f);
            dz[2 * hidden + j] = dc[j] * i * (1.0 - g * g);
            dz[3 * hidden + j] = dh[j] * step.tanh_c[j] * o * (1.0 - o);
            dc[j] *= f;
        }
        dh = vec![0.0; hidden];
        for (row, &dz_row) in dz.iter().enumerate() {
            add(result, &format!("dbias_l{k}"), [row], dz_row);
            for (n, &value) in x[t].iter().enumerate() {
                add(result, &format!("dweight_ih_l{k}"), [row, n], dz_row * value);
                dx[t][n] += dz_row * w[[row, n]];
            }
            for (n, &value) in hs[t].iter().enumerate() {
                add(result, &format!("dweight_hh_l{k}"), [row, n], dz_row * value);
                dh[n] += dz_row * u[[row, n]];
            }
        }
    }
    for j in 0..hidden {
        add(result, "dh0", [k, b, j], dh[j]);
        add(result, "dc0", [k, b, j], dc[j]);
    }
    dx
}

fn add<const AXES: usize>(result: &mut Arrays, name: &str, place: [usize; AXES], value: Real) {
    let gradient: &mut Array<Real> = result.get_mut(name).unwrap();
    gradient[place] += value;
}
