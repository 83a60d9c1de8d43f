/// Gives freed memory back where glibc keeps an arena for each of the many threads.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    pharos_server::main()
}
