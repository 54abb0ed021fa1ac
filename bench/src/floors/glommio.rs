//! A floor server on the glommio executor: a task a connection.

use std::cell::RefCell;
use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::{AsyncReadExt, AsyncWriteExt, future};
use glommio::net::TcpStream;
use glommio::{LocalExecutorBuilder, Placement};

use super::Post;
use super::service::{Buffers, Service};

/// Bytes read at once.
const RECEIVE_BYTES: usize = 16 << 10;
/// How often the order to stop is looked for.
const STOP_EVERY: Duration = Duration::from_millis(50);

/// Serves until told to stop. The listener is opened anew, since glommio takes no open one
/// without unsafe code; the thread stays where it was pinned.
///
/// # Errors
/// The executor or its listener did not start.
pub fn serve(listener: TcpListener, post: &Post, service: impl Service) -> io::Result<()> {
    let address = listener.local_addr()?;
    drop(listener);
    let executor = LocalExecutorBuilder::new(Placement::Unbound).make().map_err(io::Error::from)?;
    executor.run(async {
        let listener = glommio::net::TcpListener::bind(address).map_err(io::Error::from)?;
        post.ready();
        let service = Rc::new(RefCell::new(service));
        let accepting = async {
            loop {
                let Ok(stream) = listener.accept().await else { return };
                let service = service.clone();
                glommio::spawn_local(async move {
                    // A connection that breaks was noticed by the load.
                    let _ = connection(stream, &service).await;
                })
                .detach();
            }
        };
        let stopping = async {
            while !post.is_over() {
                glommio::timer::sleep(STOP_EVERY).await;
            }
        };
        future::or(accepting, stopping).await;
        Ok(())
    })
}

async fn connection(mut stream: TcpStream, service: &RefCell<impl Service>) -> io::Result<()> {
    stream.set_nodelay(true).map_err(io::Error::from)?;
    let mut buffer = vec![0; RECEIVE_BYTES];
    let mut buffers = Buffers::default();
    loop {
        let length = stream.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        buffers.serve(&mut *service.borrow_mut(), &buffer[..length]).map_err(io::Error::other)?;
        stream.write_all(&buffers.output).await?;
        buffers.output.clear();
    }
}
