// my_lstm CASE RESULT: a case in, the loss and every gradient out. So far it answers with zeros.
//
//   rustc --edition 2021 -O my_lstm.rs
//   manual-lstm check --command "./my_lstm {case} {result}"               softmax and loss inside
//   manual-lstm check --command "./my_lstm {case} {result}" --head none   given dy, writes y
//
// Put your LSTM into your_lstm() below. What the arrays are is at the top of manual_lstm.rs.

mod manual_lstm;

use manual_lstm::{Array, Outcome};
use std::collections::BTreeMap;

type Real = f32; // or f64, with cases in float64
type Arrays = BTreeMap<String, Array<Real>>;

// Copy the weights out of `given`, run forward and backward, and overwrite the zeros in `result`.
// For instance the bias of layer 0's forget gate, unit j, of H units:
//     given["bias_l0"][[H + j]]                              its value
//     result.get_mut("dbias_l0").unwrap()[[H + j]] = ...     its gradient
// With `--head linear` or `bounded`: `targets` (T, B) are class numbers, and "loss" is a result.
// With `--head none` there are none: "dy" is given, and "y", the top layer's h, is a result.
// A result that you do not compute, of h_n, c_n, dx, dh0 and dc0, you take out: result.remove("dx").
fn your_lstm(given: &Arrays, targets: Option<&Array<usize>>, result: &mut Arrays) {
    let _ = (given, targets, result);
}

fn run(case: &str, result_folder: &str) -> Outcome<()> {
    manual_lstm::check_case(case)?;
    let (mut given, mut result) = (Arrays::new(), Arrays::new());
    let layers = manual_lstm::read::<Real>(case, "h0")?.shape[0];
    let mut inputs: Vec<String> = ["x", "h0", "c0"].map(String::from).to_vec();
    for k in 0..layers {
        inputs.extend(["weight_ih_l", "weight_hh_l", "bias_l"].map(|name| format!("{name}{k}")));
    }
    let of_head = ["weight_out", "bias_out"].into_iter();
    inputs.extend(of_head.filter(|name| manual_lstm::has(case, name)).map(String::from));
    for name in inputs {
        let array = manual_lstm::read::<Real>(case, &name)?;
        result.insert(format!("d{name}"), Array::zeros(&array.shape));
        given.insert(name, array);
    }
    for (upstream, output) in [("dh_n", "h_n"), ("dc_n", "c_n"), ("dy", "y"), ("dloss", "loss")] {
        if manual_lstm::has(case, upstream) {
            let array = manual_lstm::read::<Real>(case, upstream)?;
            result.insert(output.to_string(), Array::zeros(&array.shape));
            given.insert(upstream.to_string(), array);
        }
    }
    let targets = match manual_lstm::has(case, "targets") {
        true => Some(manual_lstm::read::<usize>(case, "targets")?),
        false => None,
    };

    your_lstm(&given, targets.as_ref(), &mut result);

    manual_lstm::begin_result(result_folder)?;
    for (name, array) in &result {
        manual_lstm::write(result_folder, name, array)?;
    }
    manual_lstm::finish_result(result_folder)
}

fn main() {
    let words: Vec<String> = std::env::args().collect();
    if words.len() != 3 {
        eprintln!("usage: {} CASE RESULT", words[0]);
        std::process::exit(2);
    }
    if let Err(error) = run(&words[1], &words[2]) {
        eprintln!("{}: {error}", words[0]);
        std::process::exit(1);
    }
}
