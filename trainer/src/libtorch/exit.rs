//! The end of a process whose work is done.
#![expect(unsafe_code, reason = "std's exit runs the destructors that are to be left out")]

use std::ffi::c_int;

unsafe extern "C" {
    fn _exit(status: c_int) -> !;
}

/// Ends the process at once, without the destructors of libraries: libtorch takes as long to forget its thousands of operators as it took to
/// register them, while the process's slot waits. Memory, pipes and GPUs are the system's to take back.
pub fn end_process(status: u8) -> ! {
    // SAFETY: `_exit` takes any status and does not return, so nothing is used that it leaves undone.
    unsafe { _exit(c_int::from(status)) }
}
