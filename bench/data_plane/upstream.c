/* What stands behind the routers that are measured: a server that says what a model would, and costs next to nothing.
 *
 *     upstream DELAY_MS PORT ...
 *
 * One thread, epoll, HTTP/1.1 with keep-alive, on loopback; PORT 0: any. Its first line says which ports it has, and
 * it ends when its standard input does.
 *
 *     GET of anything                  the list of models: "quick" and "slow"
 *     POST of anything                 a chat completion of BODY bytes
 *     POST with "stream":true          a stream of "max_tokens" tokens, each a chunk and a write of its own, the usage
 *                                      in the last one; the model "slow" says one every DELAY_MS
 * Rule 1: a connection stands in one queue at most: `ready` to go on with its stream, or `waiting` until it is due. The
 *         latter is in the order of time, so the queue is its own timer; all wait equally long, so whoever comes
 *         belongs at its end, or close to it.
 * Rule 2: a token is put only where nothing waits to be sent, so OUT_MAX bounds what a connection holds.
 * Rule 3: a function that may close its connection says so by returning false; nobody touches it afterwards.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define IN_MAX 32768    /* bytes of a request; the bench's have a few hundred */
#define OUT_MAX 2048    /* bytes: the head of a stream and a token, or the whole answer */
#define BODY 500        /* bytes of an answer in one piece: a few sentences and the usage */
#define TOKENS 64       /* of a stream that names no number */
#define TURN 32         /* tokens of one stream until others have their turn: half of the bench's streams */
#define EVENTS 256      /* taken from the kernel at once */
#define PORTS 8

struct queue {
  struct conn *first, *last;
};

struct conn {
  int fd;
  bool streams, slow;     /* in the middle of a stream; `tokens` are still to come */
  bool closes;            /* after this answer */
  bool blocked;           /* the kernel takes no more: waits for EPOLLOUT */
  long tokens;
  int64_t due;            /* ms, in `waiting` */
  struct queue *queue;    /* where it stands, or NULL */
  struct conn *before, *after;
  size_t in_len, out_len, out_sent;
  char in[IN_MAX + 1];    /* and a 0, so that it can be searched */
  char out[OUT_MAX];
};

static struct text {
  size_t length;
  char bytes[OUT_MAX];
} models, answer, stream_head, token, stream_end;

static struct queue ready, waiting;
static int poller, listeners[PORTS], delay_ms;

static _Noreturn void fail(const char *what) {
  perror(what);
  exit(1);
}

static int64_t now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- what is said ---- */
#define BORN "1767225600" /* when everything was made; nobody looks */
#define STARTS "\"id\":\"chatcmpl-1\",\"created\":" BORN ",\"model\":\"quick\","
#define CHUNK "data: {" STARTS "\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,"
#define USAGE "\"usage\":{\"prompt_tokens\":12,\"completion_tokens\":64,\"total_tokens\":76}"
#define MODEL(name) "{\"id\":\"" name "\",\"object\":\"model\",\"created\":" BORN ",\"owned_by\":\"library\"}"

static void whole(struct text *t, const char *body) {
  t->length = (size_t)snprintf(t->bytes, sizeof t->bytes,
      "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s", strlen(body), body);
}

static void chunk(struct text *t, const char *events, const char *end) {
  t->length = (size_t)snprintf(t->bytes, sizeof t->bytes, "%zx\r\n%s\r\n%s", strlen(events), events, end);
}

static void write_texts(void) {
  static const char opens[] = "{" STARTS "\"object\":\"chat.completion\",\"choices\":[{\"index\":0,\"message\":"
                              "{\"role\":\"assistant\",\"content\":\"";
  static const char closes[] = "\"},\"finish_reason\":\"stop\"}]," USAGE "}";
  char body[BODY + 1];
  strcpy(body, opens);
  for (size_t n = strlen(opens); n < BODY - strlen(closes); n++)
    body[n] = "word "[n % 5];
  strcpy(body + BODY - strlen(closes), closes);
  whole(&answer, body);
  whole(&models, "{\"object\":\"list\",\"data\":[" MODEL("quick") "," MODEL("slow") "]}");
  chunk(&token, CHUNK "\"delta\":{\"content\":\" word\"},\"finish_reason\":null}]}\n\n", "");
  chunk(&stream_end, CHUNK "\"delta\":{},\"finish_reason\":\"stop\"}]," USAGE "}\n\ndata: [DONE]\n\n", "0\r\n\r\n");
  stream_head.length = (size_t)sprintf(stream_head.bytes,
      "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
      "Transfer-Encoding: chunked\r\n\r\n");
}

/* ---- queues ---- */
static void leave(struct conn *c) {
  *(c->before ? &c->before->after : &c->queue->first) = c->after;
  *(c->after ? &c->after->before : &c->queue->last) = c->before;
  c->queue = NULL;
}

static void enter(struct conn *c, struct queue *q, struct conn *before) {
  c->queue = q;
  c->before = before;
  c->after = before ? before->after : q->first;
  *(before ? &before->after : &q->first) = c;
  *(c->after ? &c->after->before : &q->last) = c;
}

/* Tokens come by the clock, however late this one was said; one that is late by a whole turn starts a new count. */
static void wait_for_turn(struct conn *c) {
  int64_t now = now_ms();
  c->due += delay_ms;
  if (c->due < now)
    c->due = now + delay_ms;
  struct conn *before = waiting.last;
  while (before && before->due > c->due)
    before = before->before;
  enter(c, &waiting, before);
}

/* ---- sending ---- */
static bool hang_up(struct conn *c) {
  if (c->queue)
    leave(c);
  close(c->fd);
  free(c);
  return false;
}

static void watch(int fd, void *whose, int operation, uint32_t events) {
  struct epoll_event e = {.events = events, .data.ptr = whose};
  if (epoll_ctl(poller, operation, fd, &e))
    fail("epoll_ctl");
}

static void block(struct conn *c, bool blocked) {
  if (c->blocked != blocked) {
    c->blocked = blocked;
    watch(c->fd, c, EPOLL_CTL_MOD, blocked ? EPOLLIN | EPOLLOUT : EPOLLIN);
  }
}

static void put(struct conn *c, const struct text *t) {
  if (c->out_len + t->length > OUT_MAX)
    abort(); /* rule 2 */
  memcpy(c->out + c->out_len, t->bytes, t->length);
  c->out_len += t->length;
}

/* Send what was put. False: the connection is gone. */
static bool flush(struct conn *c) {
  while (c->out_sent < c->out_len) {
    ssize_t n = send(c->fd, c->out + c->out_sent, c->out_len - c->out_sent, MSG_NOSIGNAL);
    if (n < 0 && errno == EAGAIN) {
      block(c, true);
      return true;
    }
    if (n < 0)
      return hang_up(c);
    c->out_sent += (size_t)n;
  }
  c->out_len = c->out_sent = 0;
  block(c, false);
  return true;
}

/* Say the next tokens. False: the connection is gone. */
static bool go_on(struct conn *c) {
  for (int n = 0; n < TURN && c->streams && !c->blocked; n++) {
    c->streams = c->tokens > 0;
    put(c, c->streams ? &token : &stream_end);
    c->tokens--;
    if (!flush(c))
      return false;
    if (c->streams && c->slow && !c->blocked) {
      wait_for_turn(c);
      return true;
    }
  }
  if (c->streams && !c->blocked)
    enter(c, &ready, ready.last);
  return true;
}

/* ---- requests ---- */
/* The value of a member of a JSON object, wherever it stands first; "" if there is none. Our own requests need no more. */
static const char *value_of(const char *json, const char *quoted_name) {
  const char *p = strstr(json, quoted_name);
  return p ? p + strlen(quoted_name) + strspn(p + strlen(quoted_name), " :") : "";
}

static bool respond(struct conn *c, const char *body) {
  bool asks = !strncmp(c->in, "POST ", 5);
  if (!asks || strncmp(value_of(body, "\"stream\""), "true", 4)) {
    put(c, asks ? &answer : &models);
    return flush(c);
  }
  const char *tokens = value_of(body, "\"max_tokens\"");
  c->tokens = *tokens ? atol(tokens) : TOKENS;
  c->slow = !strncmp(value_of(body, "\"model\""), "\"slow\"", 6);
  c->streams = true;
  c->due = now_ms();
  put(c, &stream_head);
  return go_on(c);
}

/* The length of a request's body, or -1 where its head does not tell: chunked requests are not for this server. */
static long body_length(const char *head) {
  const char *length = strcasestr(head, "\r\ncontent-length:");
  if (length)
    return atol(length + strlen("\r\ncontent-length:"));
  return strcasestr(head, "\r\ntransfer-encoding:") ? -1 : 0;
}

/* How long the first request is, head and body: 0 while it is not complete, -1 if it cannot be read. */
static long request_length(struct conn *c, char **body) {
  char *end = strstr(c->in, "\r\n\r\n");
  if (!end)
    return 0;
  end[2] = 0; /* searches of the head end where it does */
  long length = body_length(c->in);
  c->closes = strcasestr(c->in, "\r\nconnection: close\r\n");
  end[2] = '\r';
  *body = end + 4;
  if (length < 0 || length > IN_MAX)
    return -1;
  length += *body - c->in;
  return length <= (long)c->in_len ? length : 0;
}

/* Answer what can be answered now. */
static void serve(struct conn *c) {
  while (!c->streams && !c->blocked) {
    char *body;
    long length = c->closes ? -1 : request_length(c, &body);
    if (length < 0)
      hang_up(c);
    if (length <= 0)
      return;
    char next = c->in[length];
    c->in[length] = 0;
    if (!respond(c, body))
      return;
    c->in[length] = next;
    c->in_len -= (size_t)length;
    memmove(c->in, c->in + length, c->in_len + 1);
  }
}

/* ---- events ---- */
static void on_connection(int listener) {
  for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct conn *c = calloc(1, sizeof *c);
    if (!c)
      fail("calloc");
    c->fd = fd;
    watch(fd, c, EPOLL_CTL_ADD, EPOLLIN);
  }
}

static void on_event(struct conn *c, uint32_t events) {
  if (events & EPOLLOUT && (!flush(c) || !go_on(c)))
    return;
  if (events & (EPOLLIN | EPOLLERR | EPOLLHUP)) {
    ssize_t n = recv(c->fd, c->in + c->in_len, IN_MAX - c->in_len, 0);
    if (n == 0 || (n < 0 && errno != EAGAIN)) { /* it left, or a request is too long */
      hang_up(c);
      return;
    }
    c->in_len += n > 0 ? (size_t)n : 0;
    c->in[c->in_len] = 0;
  }
  serve(c);
}

static void go_on_with(struct conn *c) {
  leave(c);
  if (go_on(c))
    serve(c);
}

/* Those whose turn it is now; who comes back meanwhile has the next one. */
static void on_turn(void) {
  bool over = !ready.first;
  for (struct conn *last = ready.last; !over;) {
    over = ready.first == last;
    go_on_with(ready.first);
  }
  for (int64_t now = now_ms(); waiting.first && waiting.first->due <= now;)
    go_on_with(waiting.first);
}

/* Milliseconds until something is due; -1: nothing is. */
static int patience(void) {
  if (ready.first || !waiting.first)
    return ready.first ? 0 : -1;
  int64_t left = waiting.first->due - now_ms();
  return left > 0 ? (int)left : 0;
}

static int listen_on(int port) {
  struct in_addr loopback = {htonl(INADDR_LOOPBACK)};
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = loopback};
  socklen_t size = sizeof a;
  int one = 1;
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(listener, (struct sockaddr *)&a, size) || listen(listener, SOMAXCONN))
    fail("listen");
  getsockname(listener, (struct sockaddr *)&a, &size);
  printf("%d ", ntohs(a.sin_port));
  return listener;
}

int main(int argc, char **argv) {
  static int input = STDIN_FILENO;
  if (argc < 3 || argc > 2 + PORTS)
    return fprintf(stderr, "usage: upstream DELAY_MS PORT ...\n"), 2;
  delay_ms = atoi(argv[1]);
  write_texts();
  poller = epoll_create1(EPOLL_CLOEXEC);
  watch(input, &input, EPOLL_CTL_ADD, EPOLLIN);
  for (int n = 0; n < argc - 2; n++) {
    listeners[n] = listen_on(atoi(argv[n + 2]));
    watch(listeners[n], &listeners[n], EPOLL_CTL_ADD, EPOLLIN);
  }
  puts("");
  fflush(stdout);
  for (struct epoll_event events[EVENTS];;) {
    int n = epoll_wait(poller, events, EVENTS, patience());
    for (int i = 0; i < n; i++) {
      void *whose = events[i].data.ptr;
      char ignored[64];
      if (whose == &input && read(input, ignored, sizeof ignored) <= 0)
        return 0;
      if (whose >= (void *)listeners && whose < (void *)(listeners + PORTS))
        on_connection(*(int *)whose);
      else if (whose != &input)
        on_event(whose, events[i].events);
    }
    on_turn();
  }
}
