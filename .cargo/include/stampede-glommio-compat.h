/* Makes glommio's C part build with a glibc that declares openat2 itself; see
 * ../config.toml. It is included before every C file of every dependency, so it
 * must do nothing for assembler files and change nothing where it is not needed. */
#if !defined(__ASSEMBLER__) && defined(__linux__)
#  ifndef _GNU_SOURCE
#    define _GNU_SOURCE
#  endif
#  include <fcntl.h>
#endif
