package main

import (
	"runtime"
	"slices"
	"strings"
)

// proxyVariables are what programs look for a proxy in. Some die of a
// socks5h:// URL, so all hold the http:// one.
var proxyVariables = []string{"ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "all_proxy", "https_proxy", "http_proxy"}

// directVariables name what is reached without the proxy.
var directVariables = []string{"NO_PROXY", "no_proxy"}

// loopbackNames is all that a command may reach directly, whatever its caller
// had set: an inherited * would mean direct connections.
const loopbackNames = "localhost,127.0.0.1,::1"

// environ is the environment of a command: that of the caller with the proxy's
// variables set and without secrets. Variables of a listener that is off are
// removed, for those of the caller lead elsewhere.
func (p *proxy) environ(caller []string) []string {
	ours := slices.Concat(proxyVariables, directVariables, []string{socksVariable, privateKeyVariable, variable("token"), variable("token-command"), variable("api-proxy")})
	env := slices.DeleteFunc(slices.Clone(caller), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return slices.ContainsFunc(ours, func(s string) bool { return sameVariable(s, name) })
	})
	if p.http != nil {
		for _, name := range proxyVariables {
			env = append(env, name+"="+p.url(httpScheme, p.http))
		}
	}
	if p.socks != nil {
		env = append(env, socksVariable+"="+p.url(socksScheme, p.socks))
	}
	for _, name := range directVariables {
		env = append(env, name+"="+loopbackNames)
	}
	return env
}

func sameVariable(a, b string) bool {
	if runtime.GOOS == "windows" {
		return strings.EqualFold(a, b)
	}
	return a == b
}
