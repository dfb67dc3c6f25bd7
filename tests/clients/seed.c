/* SPDX-License-Identifier: MIT */
/*
 * seed.c - seed msync|close FILE: the case of the letter that started it, with blocks of 1 KiB. One page is
 * stored to, the file grows under it, and the rest of the page is stored to. Knows nothing of Holdfast. Says
 * what it was told.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static sigjmp_buf refused;

static void on_bus(int sig)
{
    siglongjmp(refused, sig);
}

static void say(const char *call, int result)
{
    printf("%s %s, ", call, result == 0 ? "ok" : errno == ENOSPC ? "ENOSPC" : strerror(errno));
}

int main(int argc, char **argv)
{
    static const int places[] = {0, 1024, 2048, 4095};
    static char block[1024] = "k";
    int fd = argc == 3 ? open(argv[2], O_RDWR | O_CREAT, 0644) : -1, asks = fd >= 0 && argv[1][0] == 'm';
    volatile int stored = 0, grown;
    char *page;

    if (fd < 0 || write(fd, block, sizeof(block)) != (ssize_t)sizeof(block))
        return 1;
    page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (page == MAP_FAILED || signal(SIGBUS, on_bus) == SIG_ERR)
        return 1;
    if (!asks)
        say("close", close(fd));
    page[places[stored++]] = 'a';
    grown = truncate(argv[2], 10000);
    say("truncate", grown);
    if (sigsetjmp(refused, 1) != 0)
        printf("SIGBUS, ");
    else
        for (; grown == 0 && stored < 4; stored++)
            page[places[stored]] = (char)('a' + stored);
    if (asks)
        say("msync", msync(page, 4096, MS_SYNC));
    say("munmap", munmap(page, 4096));
    if (asks)
        say("close", close(fd));
    printf("%d stored\n", stored);
    return 0;
}
