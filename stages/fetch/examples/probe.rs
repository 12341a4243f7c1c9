//! temporary harness of helper C: runs a real fetch, prints digests
use dissim_api::{Context, Stage};
fn main() {
    let name = std::env::args().nth(1).unwrap();
    let root = std::path::PathBuf::from(std::env::args().nth(2).unwrap());
    let out = root.join("out");
    let scratch = root.join("scratch");
    std::fs::create_dir_all(&out).unwrap();
    std::fs::create_dir_all(&scratch).unwrap();
    let given = serde_json::json!({"dataset": name});
    let p = dissim_fetch::Fetch.resolve(given.as_object().unwrap()).unwrap();
    let mut c = Context::for_test("fetch", p, &out, &scratch);
    let t = std::time::Instant::now();
    if let Err(e) = dissim_fetch::Fetch.run(&mut c) {
        println!("{e}");
    }
    println!("{:.2}s", t.elapsed().as_secs_f64());
}
