// The first and only program of the machine that x86-env.sh emulates: runs the program that /args names, with the
// environment in /env, copies what it prints to Bochs's port 0xE9, says how it ended, and ends Bochs.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void print(const char *text, size_t length) {
    for (size_t i = 0; i < length; i++) outb(text[i], 0xE9);
}

// Says it and ends Bochs.
static void end(const char *what, int value) {
    char line[200];
    print(line, snprintf(line, sizeof line, "\nx86-init: %s %d\n", what, value));
    for (const char *c = "Shutdown"; *c; c++) outb(*c, 0x8900);
    for (;;) pause();
}

// The words of a file, each ended by a NUL.
static char **words(const char *path) {
    static char text[2][1 << 16], *list[2][1 << 10];
    static int files;
    int file = open(path, O_RDONLY), count = 0;
    char *word = text[files], **words = list[files++];
    ssize_t length = file < 0 ? -1 : read(file, word, sizeof text[0] - 1);
    if (length < 0 || length == sizeof text[0] - 1) end(path, errno);
    for (char *stop = word + length; word < stop && count < (1 << 10) - 1; word += strlen(word) + 1)
        words[count++] = word;
    return words;
}

static void mounted(const char *type, const char *at) {
    mkdir(at, 0755);
    if (mount(type, at, type, 0, NULL)) end(at, errno);
}

int main(void) {
    const char *start = "x86-init: start\n";
    if (iopl(3)) return 1;
    mounted("proc", "/proc");
    mounted("sysfs", "/sys");
    mounted("devtmpfs", "/dev");
    mounted("tmpfs", "/tmp");
    print(start, strlen(start));
    char **args = words("/args"), **env = words("/env");
    int pipes[2];
    if (pipe(pipes)) end("pipe", errno);
    pid_t child = fork();
    if (child == 0) {
        dup2(open("/dev/null", O_RDONLY), 0);
        dup2(pipes[1], 1);
        dup2(pipes[1], 2);
        close(pipes[0]);
        close(pipes[1]);
        execve(args[0], args, env);
        perror(args[0]);
        _exit(127);
    }
    close(pipes[1]);
    char text[4096];
    for (ssize_t length; (length = read(pipes[0], text, sizeof text)) > 0;) print(text, length);
    int status;
    if (waitpid(child, &status, 0) != child) end("waitpid", errno);
    if (WIFSIGNALED(status)) end("signal", WTERMSIG(status));
    end("exit", WEXITSTATUS(status));
}
