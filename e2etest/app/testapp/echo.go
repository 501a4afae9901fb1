package main

import (
	"context"
	"io"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"heraldlb.io/herald/e2etest/app"
)

// counterInterval is between two lines of the stream port: a stall shows within 20 ms, and a hundred streams still cost
// little.
const counterInterval = 20 * time.Millisecond

// serveConnections hands every connection to handle, and closes them all when ctx ends or no more can be accepted.
func serveConnections(ctx context.Context, l net.Listener, handle func(context.Context, net.Conn)) error {
	var open sync.WaitGroup
	defer open.Wait()
	ctx, end := context.WithCancel(ctx)
	defer end()
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		open.Go(func() {
			defer c.Close()
			stop := context.AfterFunc(ctx, func() { c.Close() })
			defer stop()
			handle(ctx, c)
		})
	}
}

func (a *application) greeting(c net.Conn) []byte {
	return app.Answer{Node: a.node, Pod: a.pod, ClientAddress: c.RemoteAddr().String(), ServerAddress: c.LocalAddr().String(), Protocol: "TCP"}.Line()
}

func (a *application) echoConnection(_ context.Context, c net.Conn) {
	if _, err := c.Write(a.greeting(c)); err == nil {
		io.Copy(c, c)
	}
}

func (a *application) streamConnection(ctx context.Context, c net.Conn) {
	if _, err := c.Write(a.greeting(c)); err != nil {
		return
	}
	tick := time.NewTicker(counterInterval)
	defer tick.Stop()
	var line []byte
	for n := int64(1); ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		line = append(strconv.AppendInt(line[:0], n, 10), '\n')
		if _, err := c.Write(line); err != nil {
			return
		}
	}
}

// echoDatagrams answers each datagram once. A pod has one address of each family, so the kernel's choice of the source is
// the address that the datagram came to.
func (a *application) echoDatagrams() error {
	socket := a.echoUDP.(*net.UDPConn)
	listening := socket.LocalAddr().String()
	payload := make([]byte, 1<<16)
	for {
		n, from, err := socket.ReadFromUDPAddrPort(payload)
		if err != nil {
			return err
		}
		seen := netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		answer := app.Answer{Node: a.node, Pod: a.pod, ClientAddress: seen.String(), ServerAddress: listening, Protocol: "UDP"}
		// A datagram that cannot be answered is lost, as datagrams are.
		socket.WriteToUDPAddrPort(append(answer.Line(), payload[:n]...), from)
	}
}
