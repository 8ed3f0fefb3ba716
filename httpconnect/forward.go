package httpconnect

import (
	"context"
	"net/http"
)

func persistent(req *http.Request) bool { return !req.Close && req.ProtoAtLeast(1, 1) }
func isFinal(req *http.Request) bool {
	return req.Method == http.MethodOptions && req.RequestURI == "*"
}
func (c *client) answerOptions(req *http.Request) outcome { return leave }
func (c *client) forward(ctx context.Context, req *http.Request, t target, user string) outcome {
	return c.refuse(req, badRequest("not yet"))
}
func (c *client) leavePool() {}
