package snapproxy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/snapproxy/snapproxy/scion"
)

const (
	// maxHostsFile bounds what is read of a hosts file.
	maxHostsFile = 4 << 20
	// maxAddresses bounds the addresses of one name.
	maxAddresses = 64
)

// lookupFiles returns the addresses that the first file has which knows the
// name, none if none does.
func (n *Names) lookupFiles(name string) ([]scion.Addr, error) {
	for _, file := range slices.Backward(n.cfg.HostsFiles) {
		addrs, err := readHosts(file, name, nil)
		if err != nil || len(addrs) > 0 {
			return addrs, err
		}
	}
	// The system's file may hold what other programs understand and we do not.
	addrs, err := readHosts(n.cfg.SystemHosts, name, func(err error) {
		n.logger.Debug("line of hosts file left out", "error", err)
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return addrs, err
}

// readHosts returns the addresses of a name in a hosts file. It goes on after a
// line that is none if bad is not nil, which it then calls.
func readHosts(file, name string, bad func(error)) ([]scion.Addr, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, &fs.PathError{Op: "read", Path: file, Err: errors.New("is a directory")}
	}
	if info.Size() > maxHostsFile {
		return nil, fmt.Errorf("%s: larger than %d bytes", file, maxHostsFile)
	}
	addrs, err := parseHosts(io.LimitReader(f, maxHostsFile), name, bad)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return addrs, nil
}

// parseHosts is readHosts for the content of a file.
//
//	# a comment
//	1-ff00:0:110,10.0.0.1   exit.example.org exit   # and another
//	[1-ff00:0:110,fd00::1]  exit6
func parseHosts(r io.Reader, name string, bad func(error)) ([]scion.Addr, error) {
	name = strings.TrimSuffix(name, ".")
	var addrs []scion.Addr
	lines := bufio.NewScanner(r)
	for number := 1; lines.Scan(); number++ {
		text, _, _ := strings.Cut(lines.Text(), "#")
		fields := strings.Fields(text)
		if len(fields) == 0 {
			continue
		}
		a, err := parseHostsLine(fields)
		if err == nil && len(addrs) == maxAddresses {
			err = errAddressesFound
		}
		if err != nil {
			err = fmt.Errorf("line %d: %w (want ISD-AS,IP NAME, such as 1-ff00:0:110,10.0.0.1 exit.example.org)", number, err)
			if bad == nil {
				return nil, err
			}
			bad(err)
			continue
		}
		named := func(field string) bool { return strings.EqualFold(strings.TrimSuffix(field, "."), name) }
		if slices.ContainsFunc(fields[1:], named) && !slices.Contains(addrs, a) {
			addrs = append(addrs, a)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	return addrs, nil
}

var errNoNames = errors.New("no name behind the address")

func parseHostsLine(fields []string) (scion.Addr, error) {
	a, err := parseSCIONHost(fields[0])
	if err == nil && len(fields) == 1 {
		err = errNoNames
	}
	return a, err
}
