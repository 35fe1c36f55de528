//! The few driver calls that the floors and the alternatives need, outside the engine.
//!
//! One context, used by one thread, gone before an engine is built: the engine's kernel and these never run at the
//! same time.

use std::ffi::{CStr, CString, c_void};
use std::time::{Duration, Instant};

use cudarc::driver::sys;

/// A driver call that failed, or a kernel that did not end.
#[derive(Debug)]
pub struct CudaError(pub String);

impl std::fmt::Display for CudaError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CudaError {}

/// Result of a driver call.
pub type CudaResult<T> = Result<T, CudaError>;

/// Calls the driver; an error names the call.
macro_rules! driver {
    ($call:ident($($argument:expr),* $(,)?)) => {
        // SAFETY: every caller in this module passes live handles and valid addresses, as the call documents.
        check(stringify!($call), unsafe { sys::$call($($argument),*) })
    };
}

fn check(call: &str, result: sys::CUresult) -> CudaResult<()> {
    if result == sys::CUresult::CUDA_SUCCESS {
        return Ok(());
    }
    let mut name = std::ptr::null();
    // SAFETY: writes the address of a static string, or fails and leaves null.
    let _ = unsafe { sys::cuGetErrorName(result, &raw mut name) };
    let name = if name.is_null() {
        format!("error {}", result as u32)
    } else {
        // SAFETY: the driver's error names are static, NUL-terminated strings.
        unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned()
    };
    Err(CudaError(format!("{call} failed: {name}")))
}

/// The primary context of a device, current on the thread that made it.
#[derive(Debug)]
pub struct Context {
    device: sys::CUdevice,
    /// Streaming multiprocessors of the device.
    pub multiprocessors: u32,
    /// Such as 90 for compute capability 9.0.
    pub compute_capability: u32,
}

impl Context {
    /// Retains the context of device `index` and makes it current.
    pub fn new(index: u32) -> CudaResult<Self> {
        use sys::CUdevice_attribute_enum as A;
        driver!(cuInit(0))?;
        let mut device = 0;
        driver!(cuDeviceGet(&raw mut device, index as i32))?;
        let attribute = |which: A| {
            let mut value = 0;
            driver!(cuDeviceGetAttribute(&raw mut value, which, device)).map(|()| value as u32)
        };
        let multiprocessors = attribute(A::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
        let compute_capability = attribute(A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)? * 10
            + attribute(A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
        let mut context = std::ptr::null_mut();
        driver!(cuDevicePrimaryCtxRetain(&raw mut context, device))?;
        let this = Self { device, multiprocessors, compute_capability };
        driver!(cuCtxSetCurrent(context))?;
        Ok(this)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // A failure here can only be reported by the next user of the device, who gets it from the driver.
        let _ = driver!(cuCtxSetCurrent(std::ptr::null_mut()));
        let _ = driver!(cuDevicePrimaryCtxRelease_v2(self.device));
    }
}

/// A loaded module.
#[derive(Debug)]
pub struct Module<'c> {
    module: sys::CUmodule,
    _context: &'c Context,
}

impl<'c> Module<'c> {
    /// Compiles PTX for the context's device.
    pub fn load(context: &'c Context, ptx: &str) -> CudaResult<Self> {
        let text = CString::new(ptx).map_err(|_| CudaError("the PTX text contains a NUL".into()))?;
        let mut module = std::ptr::null_mut();
        driver!(cuModuleLoadData(&raw mut module, text.as_ptr().cast()))?;
        Ok(Self { module, _context: context })
    }

    /// A kernel of the module.
    pub fn function(&self, name: &CStr) -> CudaResult<Function<'_>> {
        let mut function = std::ptr::null_mut();
        driver!(cuModuleGetFunction(&raw mut function, self.module, name.as_ptr()))
            .map_err(|error| CudaError(format!("{error} (kernel {})", name.to_string_lossy())))?;
        Ok(Function { function, _module: std::marker::PhantomData })
    }
}

impl Drop for Module<'_> {
    fn drop(&mut self) {
        let _ = driver!(cuModuleUnload(self.module));
    }
}

/// A kernel.
#[derive(Clone, Copy, Debug)]
pub struct Function<'m> {
    function: sys::CUfunction,
    _module: std::marker::PhantomData<&'m ()>,
}

impl Function<'_> {
    /// Registers of each thread.
    pub fn registers(&self) -> CudaResult<u32> {
        let mut registers = 0;
        let which = sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_NUM_REGS;
        driver!(cuFuncGetAttribute(&raw mut registers, which, self.function))?;
        Ok(registers as u32)
    }
}

/// A non-blocking stream.
#[derive(Debug)]
pub struct Stream<'c> {
    stream: sys::CUstream,
    _context: &'c Context,
}

impl<'c> Stream<'c> {
    /// A stream that does not wait for the default stream.
    pub fn new(context: &'c Context) -> CudaResult<Self> {
        let mut stream = std::ptr::null_mut();
        driver!(cuStreamCreate(&raw mut stream, sys::CUstream_flags::CU_STREAM_NON_BLOCKING as u32))?;
        Ok(Self { stream, _context: context })
    }

    /// Launches a kernel that takes one address, or none when `argument` is nothing.
    pub fn launch(&self, function: Function<'_>, blocks: u32, threads: u32, argument: Option<u64>) -> CudaResult<()> {
        let mut address = argument.unwrap_or(0);
        let mut parameters = [(&raw mut address).cast::<c_void>()];
        let parameters = if argument.is_some() { parameters.as_mut_ptr() } else { std::ptr::null_mut() };
        let none = std::ptr::null_mut();
        driver!(cuLaunchKernel(function.function, blocks, 1, 1, threads, 1, 1, 0, self.stream, parameters, none))
    }

    /// Copies host memory to the device, in the stream's order; `from` must be pinned and stay until then.
    pub fn copy_in(&self, to: u64, from: &Pinned<'_>) -> CudaResult<()> {
        driver!(cuMemcpyHtoDAsync_v2(to, from.host.cast::<c_void>(), from.bytes, self.stream))
    }

    /// Copies device memory to the host, as [`copy_in`](Self::copy_in).
    pub fn copy_out(&self, to: &Pinned<'_>, from: u64) -> CudaResult<()> {
        driver!(cuMemcpyDtoHAsync_v2(to.host.cast::<c_void>(), from, to.bytes, self.stream))
    }

    /// Waits until all work of the stream is done.
    pub fn synchronize(&self) -> CudaResult<()> {
        driver!(cuStreamSynchronize(self.stream))
    }

    /// Waits until all work of the stream is done, but not longer than `time`.
    pub fn synchronize_within(&self, time: Duration) -> CudaResult<()> {
        let begin = Instant::now();
        loop {
            // SAFETY: the stream is alive.
            let result = unsafe { sys::cuStreamQuery(self.stream) };
            if result != sys::CUresult::CUDA_ERROR_NOT_READY {
                return check("cuStreamQuery", result);
            }
            if begin.elapsed() > time {
                return Err(CudaError(format!("a kernel did not end within {time:?}")));
            }
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    /// Records what `work` does with the stream, without doing it.
    pub fn capture(&self, work: impl FnOnce(&Self) -> CudaResult<()>) -> CudaResult<Graph<'c>> {
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        driver!(cuStreamBeginCapture_v2(self.stream, mode))?;
        let done = work(self);
        let mut graph = std::ptr::null_mut();
        driver!(cuStreamEndCapture(self.stream, &raw mut graph))?;
        done?;
        let mut executable = std::ptr::null_mut();
        let made = driver!(cuGraphInstantiateWithFlags(&raw mut executable, graph, 0));
        driver!(cuGraphDestroy(graph))?;
        made?;
        Ok(Graph { executable, _context: self._context })
    }
}

impl Drop for Stream<'_> {
    fn drop(&mut self) {
        let _ = driver!(cuStreamDestroy_v2(self.stream));
    }
}

/// Recorded work.
#[derive(Debug)]
pub struct Graph<'c> {
    executable: sys::CUgraphExec,
    _context: &'c Context,
}

impl Graph<'_> {
    /// Starts the recorded work.
    pub fn launch(&self, stream: &Stream<'_>) -> CudaResult<()> {
        driver!(cuGraphLaunch(self.executable, stream.stream))
    }
}

impl Drop for Graph<'_> {
    fn drop(&mut self) {
        let _ = driver!(cuGraphExecDestroy(self.executable));
    }
}

/// Zeroed device memory.
#[derive(Debug)]
pub struct DeviceMemory<'c> {
    address: u64,
    _context: &'c Context,
}

impl<'c> DeviceMemory<'c> {
    /// Allocates `bytes` (at least one) and clears them.
    pub fn new(context: &'c Context, bytes: usize) -> CudaResult<Self> {
        let mut address = 0;
        driver!(cuMemAlloc_v2(&raw mut address, bytes.max(1)))?;
        let this = Self { address, _context: context };
        driver!(cuMemsetD8_v2(address, 0, bytes.max(1)))?;
        // The clearing may still run when the call returns; kernels run in streams that do not wait for it.
        driver!(cuCtxSynchronize())?;
        Ok(this)
    }

    /// Device memory with the bytes of `values`.
    pub fn of<T: bytemuck::NoUninit>(context: &'c Context, values: &[T]) -> CudaResult<Self> {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        let this = Self::new(context, bytes.len())?;
        driver!(cuMemcpyHtoD_v2(this.address, bytes.as_ptr().cast(), bytes.len()))?;
        Ok(this)
    }

    /// Its address on the device.
    pub fn address(&self) -> u64 {
        self.address
    }
}

impl Drop for DeviceMemory<'_> {
    fn drop(&mut self) {
        let _ = driver!(cuMemFree_v2(self.address));
    }
}

/// Zeroed pinned host memory that the device sees.
#[derive(Debug)]
pub struct Pinned<'c> {
    host: *mut u8,
    device: u64,
    bytes: usize,
    _context: &'c Context,
}

impl<'c> Pinned<'c> {
    /// Allocates `bytes` (at least one).
    pub fn new(context: &'c Context, bytes: usize) -> CudaResult<Self> {
        let mut host = std::ptr::null_mut();
        let flags = sys::CU_MEMHOSTALLOC_PORTABLE | sys::CU_MEMHOSTALLOC_DEVICEMAP;
        driver!(cuMemHostAlloc(&raw mut host, bytes.max(1), flags))?;
        let mut this = Self { host: host.cast(), device: 0, bytes, _context: context };
        // SAFETY: freshly allocated, `bytes` long.
        unsafe { this.host.write_bytes(0, bytes.max(1)) };
        driver!(cuMemHostGetDevicePointer_v2(&raw mut this.device, host, 0))?;
        Ok(this)
    }

    /// Its address on the host; page-aligned.
    pub fn host(&self) -> *mut u8 {
        self.host
    }

    /// Its address on the device.
    pub fn device(&self) -> u64 {
        self.device
    }
}

impl Drop for Pinned<'_> {
    fn drop(&mut self) {
        let _ = driver!(cuMemFreeHost(self.host.cast()));
    }
}
