/* What asks where wrk cannot: many connections to one address, all of them watched, by a client that costs next to
 * nothing.
 *
 *     client HOST PORT PATH BODY CONNECTIONS RATE
 *
 * One thread, epoll, HTTP/1.1 with keep-alive. Every connection posts BODY to PATH. Its first line, "ready", says that
 * all were answered, of a stream SEEN events. From then on it watches:
 *
 *     streams                          go on; the gaps between two pieces of the same one are timed, a piece being
 *                                      what has come when it is looked at
 *     answers in one piece             RATE more are asked for per second, evenly, each over the connection that has
 *                                      been free for longest; timed from when it was due, so that those that had to
 *                                      wait for a free connection hide nothing. RATE 0: connections are left idle
 *
 * until its standard input ends. Then the last line of its standard error is what it saw; times in µs:
 *
 *     {"connections":32,"lost":0,"refused":0,"due":15000,"times":15000,"p50":98,"p99":210,"max":1893,"late":0,
 *      "duration":3000041}
 *
 * Rule 1: nothing is timed before all are ready, and whatever ends before that ends the program, with a reason.
 * Rule 2: a stream never ends by itself; one that does is lost, like any connection that the other side closes.
 * Rule 3: what is still waited for at the end counts as well once it is late, or a stream that fell silent would not.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define HEAD_MAX 1024      /* bytes of a response's head; ours have a few hundred */
#define READ_MAX 65536     /* bytes taken at once */
#define REQUEST_MAX 4096   /* bytes; the bench's have a few hundred */
#define SEEN 2             /* events of a stream, so that it is relayed and not only begun */
#define AT_ONCE 250        /* connections that are opened and not answered yet: below the backlog of most servers */
#define LATE 1000000       /* µs: a gap that a reader takes for a fault */
#define LONGEST 10000000   /* µs told apart; what took longer is counted as so long */
#define PATIENCE 5000000   /* µs for answers that are under way at the end */
#define LOOK 10            /* ms between looks at the clock then */
#define EVENTS 256         /* taken from the kernel at once */

static const char LAST_CHUNK[] = "0\r\n\r\n", EVENT[] = "data: ";
#define TAIL (sizeof LAST_CHUNK - 1)

struct conn {
  int fd;                  /* -1: lost */
  bool answered;           /* once at least */
  bool waits;              /* for an answer or a piece, since `since` */
  bool in_head, stream, chunked;
  int events;
  int64_t since;           /* µs */
  long left;               /* bytes of an answer that is not chunked */
  size_t head_len;
  char head[HEAD_MAX + 1], tail[TAIL];
};

static struct conn *conns, **idle; /* `idle`: a ring of those without a request */
static long wanted, opened, ready, first_idle, idles;
static char request[REQUEST_MAX];
static size_t request_len;
static struct addrinfo *address;
static int poller, timer;

static bool watching;
static long rate, due, asked, answers, refused, lost, late, times;
static int64_t start, slowest;
static uint32_t counts[LONGEST + 1]; /* times by µs; only what is used takes memory */

static _Noreturn void fail(const char *what) {
  perror(what);
  exit(1);
}

static int64_t now_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void watch(int fd, void *whose) {
  struct epoll_event e = {.events = EPOLLIN, .data.ptr = whose};
  if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e))
    fail("epoll_ctl");
}

/* ---- what was seen ---- */
static void count(int64_t us) {
  times++;
  late += us > LATE;
  slowest = us > slowest ? us : slowest;
  counts[us < 0 ? 0 : us > LONGEST ? LONGEST : us]++;
}

static int64_t percentile(int percent) {
  long below = 0, rank = (times * percent + 99) / 100;
  for (int us = 0; us <= LONGEST && times; us++)
    if ((below += counts[us]) >= rank)
      return us;
  return 0;
}

static int64_t due_at(long n) {
  return start + (n + 1) * 1000000 / rate;
}

static void count_if_late(int64_t us) {
  if (us > LATE)
    count(us);
}

static void report(int64_t end) {
  for (long n = 0; n < wanted; n++)
    if (conns[n].fd >= 0 && conns[n].waits)
      count_if_late(now_us() - conns[n].since); /* rule 3 */
  for (; asked < due; asked++)
    count_if_late(now_us() - due_at(asked));
  fprintf(stderr,
      "{\"connections\":%ld,\"lost\":%ld,\"refused\":%ld,\"due\":%ld,\"times\":%ld,"
      "\"p50\":%lld,\"p99\":%lld,\"max\":%lld,\"late\":%ld,\"duration\":%lld}\n",
      wanted, lost, refused, due, times,
      (long long)percentile(50), (long long)percentile(99), (long long)slowest, late, (long long)(end - start));
}

/* ---- asking ---- */
static void lose(struct conn *c, const char *why) {
  if (!watching) { /* rule 1 */
    fprintf(stderr, "after %ld of %ld connections: %s\n", ready, wanted, why);
    exit(1);
  }
  close(c->fd);
  c->fd = -1;
  lost++;
}

static void ask(struct conn *c, int64_t since) {
  c->waits = c->in_head = true;
  c->head_len = 0;
  c->since = since;
  if (send(c->fd, request, request_len, MSG_NOSIGNAL) != (ssize_t)request_len)
    lose(c, strerror(errno));
}

static void open_one(void) {
  struct conn *c = &conns[opened++];
  int one = 1;
  c->fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (c->fd < 0)
    fail("socket");
  if (connect(c->fd, address->ai_addr, address->ai_addrlen))
    fail("connect");
  setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  watch(c->fd, c);
  ask(c, now_us());
}

static void ask_what_is_due(void) {
  while (asked < due && idles) {
    struct conn *c = idle[first_idle];
    first_idle = (first_idle + 1) % wanted;
    idles--;
    if (c->fd >= 0) {
      ask(c, due_at(asked));
      asked++;
    }
  }
}

/* ---- being answered ---- */
static void begin(void) {
  long interval = rate ? 1000000000 / rate : 0; /* ns; one of 0 starts no timer */
  struct itimerspec every = {
      .it_interval = {interval / 1000000000, interval % 1000000000},
      .it_value = {interval / 1000000000, interval % 1000000000},
  };
  watching = true;
  start = now_us();
  timerfd_settime(timer, 0, &every, NULL);
  puts("ready");
  fflush(stdout);
}

static void was_answered(struct conn *c) {
  if (!c->answered) {
    c->answered = true;
    if (++ready == wanted)
      begin();
  }
}

static int events_in(const char *bytes, size_t n) {
  int found = 0;
  for (const char *p = bytes; (p = memmem(p, n - (size_t)(p - bytes), EVENT, sizeof EVENT - 1)); p++)
    found++;
  return found;
}

static void on_piece(struct conn *c, const char *bytes, size_t n) {
  int64_t now = now_us();
  if (watching)
    count(now - c->since);
  c->since = now;
  if (c->answered)
    return;
  c->events += events_in(bytes, n);
  if (c->events >= SEEN)
    was_answered(c);
}

static void on_answer(struct conn *c) {
  if (watching) {
    answers++;
    count(now_us() - c->since);
  }
  c->waits = false;
  idle[(first_idle + idles++) % wanted] = c;
  was_answered(c);
}

static void keep_tail(struct conn *c, const char *bytes, size_t n) {
  size_t fresh = n < TAIL ? n : TAIL;
  memmove(c->tail, c->tail + fresh, TAIL - fresh);
  memcpy(c->tail + TAIL - fresh, bytes + n - fresh, fresh);
}

static void on_body(struct conn *c, const char *bytes, size_t n) {
  keep_tail(c, bytes, n);
  c->left -= (long)n;
  bool over = c->chunked ? !memcmp(c->tail, LAST_CHUNK, TAIL) : c->left <= 0;
  if (c->stream && n)
    on_piece(c, bytes, n);
  if (over && c->stream)
    lose(c, "a stream ended"); /* rule 2 */
  else if (over)
    on_answer(c);
}

static void read_head(struct conn *c) {
  const char *length = strcasestr(c->head, "\r\ncontent-length:");
  bool good = !strncmp(c->head, "HTTP/1.1 200 ", 13);
  c->in_head = false;
  c->stream = strcasestr(c->head, "\r\ncontent-type: text/event-stream");
  c->chunked = strcasestr(c->head, "\r\ntransfer-encoding: chunked");
  c->left = length ? atol(length + strlen("\r\ncontent-length:")) : LONG_MAX; /* until the other side closes */
  memset(c->tail, 0, TAIL);
  if (!good && !watching) {
    *strstr(c->head, "\r\n") = 0;
    lose(c, c->head);
  }
  refused += !good;
}

static void on_bytes(struct conn *c, const char *bytes, size_t n) {
  if (!c->in_head) {
    on_body(c, bytes, n);
    return;
  }
  size_t room = HEAD_MAX - c->head_len, taken = n < room ? n : room, before = c->head_len;
  memcpy(c->head + before, bytes, taken);
  c->head_len += taken;
  c->head[c->head_len] = 0;
  char *end = strstr(c->head, "\r\n\r\n");
  if (!end && taken < n) {
    lose(c, "a head is too long");
  } else if (end) {
    size_t used = (size_t)(end + 4 - c->head) - before;
    end[2] = 0; /* searches of the head end where it does */
    read_head(c);
    on_body(c, bytes + used, n - used);
  }
}

/* ---- events ---- */
static void on_event(struct conn *c) {
  static char bytes[READ_MAX];
  ssize_t n = recv(c->fd, bytes, sizeof bytes, MSG_DONTWAIT);
  if (n > 0)
    on_bytes(c, bytes, (size_t)n);
  else if (n == 0)
    lose(c, "the other side closed a connection");
  else if (errno != EAGAIN)
    lose(c, strerror(errno));
}

static void on_timer(bool over) {
  uint64_t ticks;
  if (read(timer, &ticks, sizeof ticks) == sizeof ticks && !over)
    due += (long)ticks;
}

/* Watch until standard input ends, and until what was asked for by then is answered. Returns when that end was. */
static int64_t run(void) {
  static int input = STDIN_FILENO;
  int64_t end = 0;
  watch(input, &input);
  watch(timer, &timer);
  for (struct epoll_event events[EVENTS]; !end || (answers + lost < due && now_us() < end + PATIENCE);) {
    while (opened < wanted && opened - ready < AT_ONCE)
      open_one();
    int n = epoll_wait(poller, events, EVENTS, end ? LOOK : -1);
    for (int i = 0; i < n; i++) {
      void *whose = events[i].data.ptr;
      char ignored[64];
      if (whose == &timer)
        on_timer(end);
      else if (whose != &input)
        on_event(whose);
      else if (read(input, ignored, sizeof ignored) <= 0) {
        epoll_ctl(poller, EPOLL_CTL_DEL, input, NULL);
        end = now_us();
      }
    }
    ask_what_is_due();
  }
  return end;
}

int main(int argc, char **argv) {
  if (argc != 7 || (wanted = atol(argv[5])) < 1)
    return fprintf(stderr, "usage: client HOST PORT PATH BODY CONNECTIONS RATE\n"), 2;
  rate = atol(argv[6]);
  struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
  int problem = getaddrinfo(argv[1], argv[2], &hints, &address);
  if (problem)
    return fprintf(stderr, "%s: %s\n", argv[1], gai_strerror(problem)), 1;
  request_len = (size_t)snprintf(request, sizeof request,
      "POST %s HTTP/1.1\r\nHost: %s:%s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
      argv[3], argv[1], argv[2], strlen(argv[4]), argv[4]);
  if (request_len >= sizeof request)
    return fprintf(stderr, "the request is too long\n"), 2;
  conns = calloc((size_t)wanted, sizeof *conns);
  idle = calloc((size_t)wanted, sizeof *idle);
  poller = epoll_create1(EPOLL_CLOEXEC);
  timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
  if (!conns || !idle || poller < 0 || timer < 0)
    fail("start");
  int64_t end = run();
  if (!watching)
    return 1;
  report(end);
  return 0;
}
