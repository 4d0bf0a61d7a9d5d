//! agent-core works on the tasks of an OpenAaaS Server beside the data.

fn main() {}
