// Command dial fetches a page through its own snapproxy.Client, without any
// proxy listener. The flags of the environment are those of snapproxy client:
//
//	SNAPPROXY_SNAP=127.0.0.1:30041 SNAPPROXY_SNAP_KEY=… SNAPPROXY_ISD_AS=1-ff00:0:110 \
//	SNAPPROXY_EXIT=1-ff00:0:110,127.0.0.1:31000 SNAPPROXY_EXIT_KEY=… \
//	SNAPPROXY_PRIVATE_KEY=… go run ./examples/dial http://example.com/
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"

	"github.com/snapproxy/snapproxy"
	"github.com/snapproxy/snapproxy/scion"
	"github.com/snapproxy/snapproxy/tunnel/snaptun"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 {
		log.Fatal("usage: dial URL")
	}
	cfg, err := configuration()
	if err != nil {
		log.Fatal("dial: ", err)
	}
	if err := fetch(context.Background(), cfg, os.Args[1], os.Stdout); err != nil {
		log.Fatal("dial: ", err)
	}
}

// fetch copies a page to w. A Client is three lines: make it, run it, and give
// its DialContext to whatever dials.
func fetch(ctx context.Context, cfg snapproxy.ClientConfig, url string, w io.Writer) error {
	client, err := snapproxy.NewClient(cfg)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- client.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	select {
	case <-client.Ready():
	case err := <-ended:
		ended <- err // for the deferred wait
		return err
	case <-ctx.Done():
		return errors.New(client.Silent())
	}

	web := &http.Client{Transport: &http.Transport{DialContext: client.DialContext}}
	defer web.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := web.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	_, err = io.Copy(w, resp.Body)
	return err
}

func configuration() (snapproxy.ClientConfig, error) {
	var errs [5]error
	var cfg snapproxy.ClientConfig
	cfg.SNAP = os.Getenv("SNAPPROXY_SNAP")
	cfg.SNAPKey, errs[0] = snaptun.ParsePublicKey(os.Getenv("SNAPPROXY_SNAP_KEY"))
	cfg.IA, errs[1] = scion.ParseIA(os.Getenv("SNAPPROXY_ISD_AS"))
	cfg.Exit, errs[2] = scion.ParseAddr(os.Getenv("SNAPPROXY_EXIT"))
	cfg.ExitKey, errs[3] = snaptun.ParsePublicKey(os.Getenv("SNAPPROXY_EXIT_KEY"))
	cfg.PrivateKey, errs[4] = snaptun.ParsePrivateKey(os.Getenv("SNAPPROXY_PRIVATE_KEY"))
	return cfg, errors.Join(errs[:]...)
}
