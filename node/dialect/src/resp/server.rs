//! Commands that concern the node as a whole.

use super::call::{Call, Outcome, Refusal};
use super::gather::GatherKind;
use super::parse::Args;
use crate::step::{self, Control, Step};

/// There is nothing to save, so `SAVE` and `NOSAVE` are the same; `NOW` and `FORCE` are about
/// replicas and saving, too.
pub(crate) fn shutdown<'a>(call: &mut Call<'_, 'a>, args: Args<'a>) -> Outcome<'a> {
    let [mut save, mut nosave, mut abort] = [false; 3];
    let count = args.len();
    for option in args {
        match option.to_ascii_lowercase().as_slice() {
            b"save" => save = true,
            b"nosave" => nosave = true,
            b"now" | b"force" => {}
            b"abort" => abort = true,
            _ => return Err(Refusal::SYNTAX),
        }
    }
    if (save && nosave) || (abort && count > 1) {
        return Err(Refusal::SYNTAX);
    }
    if abort {
        return Err(Refusal::Words("ERR No shutdown in progress."));
    }
    let gather = step::Gather::Resp(call.gather(GatherKind::Silent));
    Ok(Step::Control { control: Control::Shutdown, gather })
}
