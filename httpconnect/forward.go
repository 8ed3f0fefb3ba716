package httpconnect

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strconv"
	"time"
)

const (
	// continueTimeout is how long a target that was asked to permit the content
	// (Expect: 100-continue) may stay silent before the content is sent anyway.
	continueTimeout = time.Second

	// maxResponseHeader is the length of the longest response header, in bytes.
	maxResponseHeader = 256 << 10

	// maxIdleTargets is how many targets a client's pool keeps a connection to.
	maxIdleTargets = 4
)

// methods are those that a target may take; CONNECT is ours.
const methods = "CONNECT, GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE"

type userKey struct{}

// UserOf returns the user for whose request Config.Dial is called, or nothing
// if users are not configured.
func UserOf(ctx context.Context) string {
	user, _ := ctx.Value(userKey{}).(string)
	return user
}

// A dialError tells the error of a dial from those of an exchange.
type dialError struct{ error }

func (e dialError) Unwrap() error { return e.error }

// forward passes a request on to t and its response back.
func (c *client) forward(ctx context.Context, req *http.Request, t target, user string) outcome {
	if c.cfg.Dial == nil {
		return c.refuse(req, failure{status: http.StatusNotImplemented, reason: errNotSupported, text: "only CONNECT is offered"})
	}
	if after, answered := c.lastHop(req); answered {
		return after
	}
	ctx, cancel := context.WithCancelCause(context.WithValue(ctx, userKey{}, user))
	defer cancel(nil)
	ex := newExchange(c, req, func(err error) { cancel(errors.Join(ErrGone, err)) })
	defer ex.finish()

	var far net.Conn
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) { far = info.Conn },
		Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			return ex.inform(code, http.Header(h))
		},
	})
	res, err := c.poolOf(user).RoundTrip(ex.outgoing(ctx, t))
	if err != nil {
		return ex.fail(ctx, err)
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusSwitchingProtocols {
		return ex.upgrade(ctx, res, far)
	}
	return ex.respond(res)
}

// lastHop answers a request that may go no further: OPTIONS for the proxy
// itself, and a TRACE or OPTIONS whose Max-Forwards is used up (RFC 9110
// §7.6.2). Otherwise it counts Max-Forwards down.
func (c *client) lastHop(req *http.Request) (outcome, bool) {
	if req.Method == http.MethodTrace && req.Body != http.NoBody {
		return c.refuse(req, badRequest("TRACE with content")), true
	}
	value := req.Header.Get("Max-Forwards")
	if value == "" || req.Method != http.MethodTrace && req.Method != http.MethodOptions {
		return 0, false
	}
	left, err := strconv.ParseUint(value, 10, 31)
	if err != nil {
		return c.refuse(req, badRequest("malformed Max-Forwards")), true
	}
	if left > 0 {
		req.Header.Set("Max-Forwards", strconv.FormatUint(left-1, 10))
		return 0, false
	}
	if req.Method == http.MethodTrace {
		// The echo of a request would hand its credentials to a script.
		return c.refuse(req, failure{status: http.StatusMethodNotAllowed, reason: errRequest, text: "the proxy itself does not answer TRACE"}), true
	}
	return c.answerOptions(req), true
}

// answerOptions answers OPTIONS for the proxy itself.
func (c *client) answerOptions(req *http.Request) outcome {
	after := leave
	if persistent(req) && req.Body == http.NoBody {
		after = keep
	}
	c.log(req, http.StatusNoContent, nil)
	c.conn.SetWriteDeadline(time.Now().Add(replyTimeout))
	c.w.WriteString("HTTP/1.1 204 No Content\r\nAllow: " + methods + "\r\n")
	if after != keep {
		c.w.WriteString("Connection: close\r\n")
	}
	c.w.WriteString("\r\n")
	if c.w.Flush() != nil {
		return leave
	}
	c.conn.SetWriteDeadline(time.Time{})
	return after
}

// poolOf returns the connections to targets that user may use. They belong to
// one connection of a client, because some targets authenticate a connection
// and not a request: whoever got it next would be taken for that client.
func (c *client) poolOf(user string) *http.Transport {
	if c.pool != nil && c.poolUser == user {
		return c.pool
	}
	c.leavePool()
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	c.poolUser = user
	c.pool = &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := c.cfg.Dial(ctx, network, addr)
			if err != nil {
				return nil, dialError{err}
			}
			return conn, nil
		},
		Protocols:              protocols,
		DisableCompression:     true,
		MaxIdleConns:           maxIdleTargets,
		MaxIdleConnsPerHost:    1,
		IdleConnTimeout:        c.cfg.IdleTimeout,
		ExpectContinueTimeout:  continueTimeout,
		MaxResponseHeaderBytes: maxResponseHeader,
		ReadBufferSize:         copyBufferSize,
		WriteBufferSize:        copyBufferSize,
	}
	return c.pool
}

func (c *client) leavePool() {
	if c.pool != nil {
		c.pool.CloseIdleConnections()
		c.pool = nil
	}
}
