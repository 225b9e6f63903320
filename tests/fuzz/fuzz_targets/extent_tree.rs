#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuse4fs_tests::fuzz::extent_tree(bytes));
