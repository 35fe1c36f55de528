use tourbillon::{Backend, Engine};
use {{library}}::{Deposit, Mine};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let wanted = std::env::args().skip_while(|argument| argument != "--backend").nth(1);
    let backend: Backend = wanted.as_deref().unwrap_or("auto").parse()?;
    let engine = Engine::builder_for(Mine::image().with_ptx(tourbillon::built_ptx!())).backend(backend).build()?;
    let balance = engine.client()?.call(42, Deposit { amount: 10 })?;
    println!("account 42 has {balance}; backend: {} on {}", engine.backend(), engine.device_name());
    Ok(())
}
