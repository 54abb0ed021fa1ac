//! Stores a greeting in a node that listens on 127.0.0.1:7400, and reads it back.

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = corelane_client::Client::connect("127.0.0.1:7400").await?;
    client.set("greeting", "hello from Corelane").await?;
    let value = client.get("greeting").await?.ok_or("it is gone already")?;
    println!("{}", String::from_utf8_lossy(&value.bytes));
    Ok(())
}
