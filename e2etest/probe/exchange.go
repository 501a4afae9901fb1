package probe

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"heraldlb.io/herald/e2etest/app"
)

// Exchange proves on a new connection that the test application is behind it, and learns who answered. Deadlines are set
// on the connection.
type Exchange func(net.Conn) (app.Answer, error)

// request is a GET / in one segment. HTTP is spoken by hand because http.Transport costs several times as much per
// connection.
var request = []byte("GET / HTTP/1.1\r\nHost: testapp\r\nConnection: close\r\n\r\n")

var readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 1024) }}

func reader(c net.Conn) *bufio.Reader {
	r := readers.Get().(*bufio.Reader)
	r.Reset(c)
	return r
}

// HTTP asks GET / of the application's HTTP port.
func HTTP(c net.Conn) (app.Answer, error) {
	if _, err := c.Write(request); err != nil {
		return app.Answer{}, err
	}
	r := reader(c)
	defer readers.Put(r)
	response, err := http.ReadResponse(r, nil)
	if err != nil {
		return app.Answer{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 4096))
	if err != nil {
		return app.Answer{}, err
	}
	if response.StatusCode != http.StatusOK {
		return app.Answer{}, fmt.Errorf("HTTP status %s", response.Status)
	}
	answer, _, err := app.ParseAnswer(body)
	return answer, err
}

// Hello reads the greeting of the application's echo and stream ports.
func Hello(c net.Conn) (app.Answer, error) {
	r := reader(c)
	defer readers.Put(r)
	line, err := r.ReadSlice('\n')
	if err != nil {
		return app.Answer{}, err
	}
	answer, _, err := app.ParseAnswer(line)
	return answer, err
}

// Datagram asks the application's UDP echo. Each attempt has a socket, and so a flow, of its own: what holds on to an old
// flow, such as connection tracking, does not speak for new ones.
func Datagram(c net.Conn) (app.Answer, error) {
	payload := strconv.AppendInt(nil, time.Now().UnixNano(), 36)
	if _, err := c.Write(payload); err != nil {
		return app.Answer{}, err
	}
	buffer := make([]byte, 2048)
	for {
		n, err := c.Read(buffer)
		if err != nil {
			return app.Answer{}, err
		}
		answer, echoed, err := app.ParseAnswer(buffer[:n])
		if err != nil {
			return app.Answer{}, err
		}
		if bytes.Equal(echoed, payload) { // else an answer to an earlier user of this port
			return answer, nil
		}
	}
}
