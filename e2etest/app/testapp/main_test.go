package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"

	"heraldlb.io/herald/e2etest/app"
)

// patience is how long a test waits for what must come; nothing takes near it when all is well.
const patience = 10 * time.Second

type running struct {
	*application
	terminate context.CancelFunc
	ended     chan error
}

// start serves on free loopback ports; host is 127.0.0.1 or [::1]. The application is ended with the test.
func start(t *testing.T, host string, delay time.Duration) running {
	t.Helper()
	free := host + ":0"
	a, err := listen(config{node: "n1", pod: "testapp-1", http: free, echo: free, stream: free, grpc: free, terminationDelay: delay})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := running{application: a, terminate: cancel, ended: make(chan error, 1)}
	stopped := make(chan struct{})
	go func() {
		r.ended <- a.serve(ctx)
		close(stopped)
	}()
	t.Cleanup(func() {
		cancel()
		<-stopped
	})
	return r
}

func (r running) url(path string) string {
	return "http://" + r.application.http.Addr().String() + path
}

func dial(t *testing.T, network, address string) net.Conn {
	t.Helper()
	c, err := net.DialTimeout(network, address, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	r, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(body)
}

func bothFamilies(t *testing.T, test func(t *testing.T, host string)) {
	for name, host := range map[string]string{"over IPv4": "127.0.0.1", "over IPv6": "[::1]"} {
		t.Run(name, func(t *testing.T) { test(t, host) })
	}
}

func checkAnswer(t *testing.T, a app.Answer, protocol string, client net.Addr) {
	t.Helper()
	if a.Node != "n1" || a.Pod != "testapp-1" || a.Protocol != protocol {
		t.Errorf("answer %+v, want n1, testapp-1, %s", a, protocol)
	}
	if client != nil && a.ClientAddress != client.String() {
		t.Errorf("it saw client %s, which is %s", a.ClientAddress, client)
	}
}

func TestHTTPTellsWhoAnswers(t *testing.T) {
	bothFamilies(t, func(t *testing.T, host string) {
		r := start(t, host, 0)
		response, err := http.Get(r.url("/"))
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		var a app.Answer
		if err := json.NewDecoder(response.Body).Decode(&a); err != nil {
			t.Fatal(err)
		}
		checkAnswer(t, a, "HTTP/1.1", nil)
		if !strings.HasPrefix(a.ClientAddress, host+":") || a.ServerAddress != r.application.http.Addr().String() {
			t.Errorf("from %s to %s", a.ClientAddress, a.ServerAddress)
		}
		if response.Header.Get(app.NodeHeader) != "n1" || response.Header.Get(app.PodHeader) != "testapp-1" {
			t.Errorf("headers %v", response.Header)
		}
	})
}

func TestReadinessIsSetByRequest(t *testing.T) {
	r := start(t, "127.0.0.1", 0)
	connection, err := grpc.NewClient("passthrough:///"+r.application.grpc.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	grpcStatus := func() string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		answer, err := grpc_health_v1.NewHealthClient(connection).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return answer.Status.String()
	}
	set := func(state string) int {
		t.Helper()
		response, err := http.Post(r.url("/ready?state="+state), "", nil)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		return response.StatusCode
	}
	for _, step := range []struct {
		name          string
		set           string // empty: nothing is set
		setStatus     int
		readyz        int
		health        string
		alsoHealthzIs int
	}{
		{"it is ready from the start", "", 0, 200, "SERVING", 200},
		{"false takes it out, and it stays alive", "false", 200, 503, "NOT_SERVING", 200},
		{"nonsense is refused and changes nothing", "maybe", 400, 503, "NOT_SERVING", 200},
		{"true takes it back in", "true", 200, 200, "SERVING", 200},
	} {
		if step.set != "" {
			if got := set(step.set); got != step.setStatus {
				t.Errorf("%s: POST answered %d, want %d", step.name, got, step.setStatus)
			}
		}
		if got, _ := get(t, r.url("/readyz")); got != step.readyz {
			t.Errorf("%s: /readyz %d, want %d", step.name, got, step.readyz)
		}
		if got, _ := get(t, r.url("/healthz")); got != step.alsoHealthzIs {
			t.Errorf("%s: /healthz %d, want %d", step.name, got, step.alsoHealthzIs)
		}
		if got := grpcStatus(); got != step.health {
			t.Errorf("%s: gRPC health %s, want %s", step.name, got, step.health)
		}
	}
}

func TestTCPEchoGreetsThenEchoes(t *testing.T) {
	bothFamilies(t, func(t *testing.T, host string) {
		r := start(t, host, 0)
		c := dial(t, "tcp", r.echo.Addr().String())
		lines := bufio.NewReader(c)
		first, err := lines.ReadBytes('\n')
		if err != nil {
			t.Fatal(err)
		}
		a, _, err := app.ParseAnswer(first)
		if err != nil {
			t.Fatal(err)
		}
		checkAnswer(t, a, "TCP", c.LocalAddr())
		for _, word := range []string{"one\n", "two\n"} {
			io.WriteString(c, word)
			if got, err := lines.ReadString('\n'); got != word {
				t.Errorf("sent %q, got %q, %v", word, got, err)
			}
		}
	})
}

func TestUDPEchoAnswersWithThePayload(t *testing.T) {
	bothFamilies(t, func(t *testing.T, host string) {
		r := start(t, host, 0)
		c := dial(t, "udp", r.echoUDP.LocalAddr().String())
		io.WriteString(c, "ping 1")
		buffer := make([]byte, 2048)
		n, err := c.Read(buffer)
		if err != nil {
			t.Fatal(err)
		}
		a, payload, err := app.ParseAnswer(buffer[:n])
		if err != nil {
			t.Fatal(err)
		}
		checkAnswer(t, a, "UDP", c.LocalAddr())
		if string(payload) != "ping 1" {
			t.Errorf("payload %q", payload)
		}
	})
}

func TestStreamsCount(t *testing.T) {
	r := start(t, "127.0.0.1", 0)
	t.Run("on the stream port, after the greeting", func(t *testing.T) {
		lines := bufio.NewScanner(dial(t, "tcp", r.stream.Addr().String()))
		want := []string{"", "1", "2", "3"}
		for n := range want {
			if !lines.Scan() {
				t.Fatal(lines.Err())
			}
			if n > 0 && lines.Text() != want[n] {
				t.Errorf("line %d is %q", n, lines.Text())
			}
		}
	})
	t.Run("over HTTP", func(t *testing.T) {
		response, err := http.Get(r.url("/stream"))
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		lines := bufio.NewScanner(response.Body)
		for _, want := range []string{"1 n1 testapp-1", "2 n1 testapp-1", "3 n1 testapp-1"} {
			if !lines.Scan() || lines.Text() != want {
				t.Fatalf("%q, %v; want %q", lines.Text(), lines.Err(), want)
			}
		}
	})
}

func TestWebSocketEchoesAndNamesTheNodeInTheHandshake(t *testing.T) {
	r := start(t, "127.0.0.1", 0)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, response, err := websocket.Dial(ctx, r.url("/ws"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	if response.Header.Get(app.NodeHeader) != "n1" {
		t.Errorf("headers %v", response.Header)
	}
	for _, kind := range []websocket.MessageType{websocket.MessageText, websocket.MessageBinary} {
		if err := c.Write(ctx, kind, []byte("hello")); err != nil {
			t.Fatal(err)
		}
		gotKind, got, err := c.Read(ctx)
		if err != nil || gotKind != kind || string(got) != "hello" {
			t.Errorf("sent %v hello, got %v %q, %v", kind, gotKind, got, err)
		}
	}
	if err := c.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Error(err)
	}
}

func TestTerminationServesOnForItsDelayUnready(t *testing.T) {
	const delay = 500 * time.Millisecond
	r := start(t, "127.0.0.1", delay)
	stream := bufio.NewReader(dial(t, "tcp", r.stream.Addr().String()))
	if _, err := stream.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	r.terminate()
	for deadline := time.Now().Add(patience); r.ready(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("still ready")
		}
	}
	if status, _ := get(t, r.url("/readyz")); status != 503 {
		t.Errorf("/readyz %d while terminating", status)
	}
	if status, _ := get(t, r.url("/")); status != 200 {
		t.Errorf("/ %d while terminating", status)
	}
	if err := <-r.ended; err != nil {
		t.Errorf("ended with %v", err)
	}
	if took := time.Since(began); took < delay {
		t.Errorf("ended after %s, before its delay of %s", took, delay)
	}
	if _, err := io.Copy(io.Discard, stream); err == nil {
		return // closed in order
	} else if !strings.Contains(err.Error(), "reset") {
		t.Errorf("the stream ended with %v", err)
	}
}

func TestConfigFromEnvironment(t *testing.T) {
	none, err := configFrom(func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	if want := (config{http: ":8080", echo: ":7000", stream: ":7001", grpc: ":9000", terminationDelay: 2 * time.Second}); none != want {
		t.Errorf("by default %+v, want %+v", none, want)
	}
	set := map[string]string{"NODE_NAME": "n2", "POD_NAME": "p", "HTTP_ADDRESS": "127.0.0.1:1", "TERMINATION_DELAY": "0s"}
	c, err := configFrom(func(name string) string { return set[name] })
	if err != nil || c.node != "n2" || c.pod != "p" || c.http != "127.0.0.1:1" || c.terminationDelay != 0 {
		t.Errorf("%+v, %v", c, err)
	}
	for _, bad := range []string{"two", "-1s", "2"} {
		if _, err := configFrom(func(name string) string { return map[string]string{"TERMINATION_DELAY": bad}[name] }); err == nil {
			t.Errorf("TERMINATION_DELAY=%s was accepted", bad)
		}
	}
}

func TestListenOpensAllOrNothing(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	free := "127.0.0.1:0"
	if a, err := listen(config{http: free, echo: free, stream: free, grpc: taken.Addr().String()}); err == nil {
		a.close()
		t.Error("listened on a port that was taken")
	} else if !strings.Contains(err.Error(), taken.Addr().String()) {
		t.Errorf("error %v does not name the address", err)
	}
}
