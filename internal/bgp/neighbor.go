package bgp

import (
	"time"

	"github.com/osrg/gobgp/v4/api"

	"heraldlb.io/herald/api/v1beta1"
)

const (
	// MaxPrefixes is how many routes of a family a peer may send before its session is closed for a while. They are
	// refused, and GoBGP keeps them all the same, about 1 KB each: a full table would end the speaker.
	MaxPrefixes = 5000

	// forever stands for a hold time of 0, which GoBGP does not offer: 18 hours are the most that fits.
	forever = 65535 * time.Second

	// deferral is how long a speaker that restarted waits for the End-of-RIB of its peers before it tells them its routes.
	// It needs nothing of theirs. GoBGP's default of 6 minutes has outlasted many a router's patience.
	deferral = time.Second
)

// asn is the AS number that the peer is shown.
func (p Peer) asn() uint32 {
	if p.LocalASN != 0 {
		return p.LocalASN
	}
	return p.MyASN
}

// remoteASN is the AS number that the peer must have; 0 is any.
func (p Peer) remoteASN() uint32 {
	if p.DynamicASN == v1beta1.DynamicASNInternal {
		return p.asn()
	}
	return p.ASN
}

// neighbor is the peer in GoBGP's terms. restarting is whether the process that the peer knew may have just ended.
func neighbor(p Peer, at place, restarting bool) *api.Peer {
	n := &api.Peer{
		Conf: &api.PeerConf{
			NeighborAddress: at.address.String(),
			LocalAsn:        p.asn(),
			PeerAsn:         p.remoteASN(),
			AuthPassword:    p.Password,
			Description:     p.Name,
			AdminDown:       p.Disabled,
		},
		Timers: &api.Timers{Config: &api.TimersConfig{
			ConnectRetry:           seconds(p.ConnectTime),
			HoldTime:               seconds(p.HoldTime),
			KeepaliveInterval:      seconds(p.KeepaliveTime),
			IdleHoldTimeAfterReset: 1,
		}},
		Transport: &api.Transport{RemotePort: uint32(p.Port), PassiveMode: p.Passive},
	}
	if p.HoldTime == 0 {
		n.Timers.Config.HoldTime, n.Timers.Config.KeepaliveInterval = seconds(forever), seconds(forever/3)
	}
	if at.source.IsValid() {
		n.Transport.LocalAddress = at.source.String()
	}
	if p.EBGPMultiHop {
		n.EbgpMultihop = &api.EbgpMultihop{Enabled: true, MultihopTtl: 255}
	}
	if p.MinimumTTL > 0 {
		n.TtlSecurity = &api.TtlSecurity{Enabled: true, TtlMin: uint32(p.MinimumTTL)}
	}
	gr := p.GracefulRestart
	if gr != nil {
		n.GracefulRestart = &api.GracefulRestart{
			Enabled:          true,
			RestartTime:      uint32(seconds(gr.RestartTime)),
			DeferralTime:     uint32(seconds(deferral)),
			LonglivedEnabled: gr.LongLivedStaleTime > 0,
			LocalRestarting:  restarting,
		}
	}
	for _, f := range p.Families {
		family := apiFamily(f == v1beta1.IPv4)
		a := &api.AfiSafi{
			Config:       &api.AfiSafiConfig{Family: family, Enabled: true},
			PrefixLimits: &api.PrefixLimit{Family: family, MaxPrefixes: MaxPrefixes},
		}
		if gr != nil {
			a.MpGracefulRestart = &api.MpGracefulRestart{Config: &api.MpGracefulRestartConfig{Enabled: true}}
			if gr.LongLivedStaleTime > 0 {
				a.LongLivedGracefulRestart = &api.LongLivedGracefulRestart{
					Config: &api.LongLivedGracefulRestartConfig{Enabled: true, RestartTime: uint32(seconds(gr.LongLivedStaleTime))},
				}
			}
		}
		n.AfiSafis = append(n.AfiSafis, a)
	}
	return n
}

func seconds(d time.Duration) uint64 { return uint64(d / time.Second) }
