package ipam

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"go4.org/netipx"
)

// step is a sentence about what happens, the command for it (see do), and what comes of it.
type step struct{ sentence, command, want string }

// story is one allocator's life. Each chapter goes on where the one before it ended.
var story = []struct {
	chapter string
	steps   []step
}{
	{"assignment", []step{
		{"without a pool nobody is served", "ask s1 4", "NoPools"},
		{"s1 waits", "waiting", "1"},
		{"a pool that is not in force serves nobody either", "pools lan:", ""},
		{"s1 is told", "serve", "s1: NoPools"},
		{"a pool of four addresses comes", "pools lan: 192.0.2.1-192.0.2.4", ""},
		{"s1 gets the lowest", "serve", "s1: 192.0.2.1@lan"},
		{"nobody waits", "waiting", "0"},
		{"s1 asks again and keeps it", "ask s1 4", "192.0.2.1@lan"},
		{"s2 gets the next", "ask s2 4", "192.0.2.2@lan"},
		{"a Service that names no family is told", "ask s0 none", "FamilyUnavailable"},
		{"and gives up", "release s0", ""},
		{"a request that contradicts itself gets nothing", "ask s0 4 fault", "InvalidAddress"},
		{"and waits for nothing", "waiting", "0"},
		{"s1 keeps its address through a mistake in its annotations", "ask s1 4 fault", "192.0.2.1@lan InvalidAddress"},
		{"the mistake is mended", "ask s1 4", "192.0.2.1@lan"},
	}},
	{"both families", []step{
		{"an IPv6 Service finds no IPv6 pool", "ask s3 6", "FamilyUnavailable"},
		{"one that must have both takes no half", "ask s3 46", "FamilyUnavailable"},
		{"one that would like both takes what there is", "ask s3 64?", "192.0.2.3@lan FamilyUnavailable"},
		{"and waits for the other", "waiting", "1"},
		{"the pool gains IPv6", "pools lan: 192.0.2.1-192.0.2.4 2001:db8::/127", ""},
		{"s3 gains its second family and keeps its first address", "serve", "s3: 2001:db8::@lan 192.0.2.3@lan"},
		{"s4 takes the last IPv4 address and the last IPv6 one", "ask s4 46", "192.0.2.4@lan 2001:db8::1@lan"},
		{"now the pool is full", "counts", "lan/ipv4 4 of 4, 0 left; lan/ipv6 2 of 2, 0 left"},
		{"s5 has to wait", "ask s5 4", "PoolExhausted"},
		{"s6 with a preference has to wait too", "ask s6 46?", "PoolExhausted"},
		{"s7 waits for IPv6", "ask s7 6", "PoolExhausted"},
		{"s2 goes", "release s2", "192.0.2.2@lan"},
		{"s5, the first in line for IPv4, gets what s2 had, and nobody else is tried", "serve", "s5: 192.0.2.2@lan"},
		{"s2 goes again and gives nothing twice", "release s2", ""},
		{"s4 turns to IPv6 and wants its IPv4 address no more", "ask s4 6", "2001:db8::1@lan leaving 192.0.2.4@lan"},
		{"it is not free before s4 has given it back", "serve", ""},
		{"nobody else can give it back", "return s6 192.0.2.4", "false"},
		{"s4 changes its mind and has it again", "ask s4 46", "192.0.2.4@lan 2001:db8::1@lan"},
		{"and changes it once more", "ask s4 6", "2001:db8::1@lan leaving 192.0.2.4@lan"},
		{"s4 gives it back", "return s4 192.0.2.4", "true"},
		{"s6, who likes both, gets this one", "serve", "s6: 192.0.2.4@lan PoolExhausted"},
		{"s4 asks for both again, in vain, and keeps what it has", "ask s4 64", "2001:db8::1@lan PoolExhausted"},
		{"s4 is content with one", "ask s4 6", "2001:db8::1@lan"},
		{"s1 must have both, cannot, and keeps its address all the same", "ask s1 46", "192.0.2.1@lan PoolExhausted"},
		{"s4 goes", "release s4", "2001:db8::1@lan"},
		{"s1 was made no earlier than s6 and s7 and comes first by its name", "serve", "s1: 192.0.2.1@lan 2001:db8::1@lan"},
		{"s1 drops IPv6", "ask s1 4", "192.0.2.1@lan leaving 2001:db8::1@lan"},
		{"and gives it back", "return s1 2001:db8::1", "true"},
		{"the next is s6", "serve", "s6: 192.0.2.4@lan 2001:db8::1@lan"},
		{"s7 still waits", "waiting", "1"},
		{"until it is of no class of ours", "cancel s7", ""},
		{"then nobody waits", "waiting", "0"},
	}},
	{"shrinking and growing", []step{
		{"the pool shrinks and its holders keep what they have", "pools lan: 192.0.2.4/32 2001:db8::/127", ""},
		{"they are counted", "counts", "lan/ipv4 4 of 1, 0 left, 3 outside; lan/ipv6 2 of 2, 0 left"},
		{"s1 asks again and keeps its address", "ask s1 4", "192.0.2.1@lan"},
		{"s5 goes; its address is no pool's any more", "release s5", "192.0.2.2@lan"},
		{"so nobody gets it", "ask s5 4", "PoolExhausted"},
		{"not even who asks for it by itself", "ask s5 4 address=192.0.2.2", "AddressOutsidePool"},
		{"the pool grows back", "pools lan: 192.0.2.1-192.0.2.4 2001:db8::/127", ""},
		{"and s5 has what it asked for", "serve", "s5: 192.0.2.2@lan"},
		{"nobody is outside", "counts", "lan/ipv4 4 of 4, 0 left; lan/ipv6 2 of 2, 0 left"},
		{"a bad edit takes the pool out of force, and nobody loses anything", "pools lan:", ""},
		{"all are outside now", "counts", "lan/ipv4 4 of 0, 0 left, 4 outside; lan/ipv6 2 of 0, 0 left, 2 outside"},
		{"who asks for the pool by name is told", "ask s8 4 pool=lan", "PoolNotAccepted"},
		{"who holds from it asks for it by name and is met", "ask s1 4 pool=lan", "192.0.2.1@lan"},
		{"who has an address of it may come back to it", "ask s3 64?", "2001:db8::@lan 192.0.2.3@lan"},
	}},
	{"exclude and buggy addresses", []step{
		{"an excluded address stays with its holder", "pools lan: 192.0.2.0-192.0.2.6 exclude=192.0.2.4 exclude=192.0.2.5 2001:db8::/127", ""},
		{"it is outside", "counts", "lan/ipv4 4 of 5, 2 left, 1 outside; lan/ipv6 2 of 2, 0 left"},
		{"s8, who waited for the pool, gets the lowest that is not excluded", "serve", "s8: 192.0.2.0@lan"},
		{"s9 gets the next, beyond the excluded ones", "ask s9 4", "192.0.2.6@lan"},
		{"an excluded one is nobody's, even when asked for", "ask s10 4 address=192.0.2.5", "AddressOutsidePool"},
		{"s6 gives its excluded address up", "release s6", "192.0.2.4@lan 2001:db8::1@lan"},
		{"and it comes back to nobody", "ask s10 4", "PoolExhausted"},
		{"buggy addresses are avoided, their holders keep them", "pools lan: 192.0.2.0-192.0.2.9 2001:db8::/127 avoid", ""},
		{"s8 has one and is outside", "counts", "lan/ipv4 5 of 9, 5 left, 1 outside; lan/ipv6 1 of 2, 1 left"},
		{"s10 gets no buggy one", "serve", "s10: 192.0.2.4@lan"},
		{"s8 goes", "release s8", "192.0.2.0@lan"},
		{"nobody gets the buggy one, not by asking either", "ask s8 4 address=192.0.2.0", "AddressOutsidePool"},
		{"s8 is content with any", "ask s8 4", "192.0.2.5@lan"},
		{"an IPv6 address that ends in zero is fine", "ask s7 6", "2001:db8::1@lan"},
		{"a /24 has 254 addresses without the buggy ones, a /16 has 65024", "pools lan: 192.0.2.0/24 2001:db8::/127 avoid; wide: 198.18.0.0/16 avoid", ""},
		{"and all are counted", "counts", "lan/ipv4 6 of 254, 248 left; lan/ipv6 2 of 2, 0 left; wide/ipv4 0 of 65024, 65024 left"},
		{"the edges of a network are passed over", "pools lan: 192.0.2.0/24 2001:db8::/127; z: 203.0.112.254-203.0.113.1 avoid", ""},
		{"z1 gets the last before them", "ask z1 4 pool=z", "203.0.112.254@z"},
		{"z2 the first after them", "ask z2 4 pool=z", "203.0.113.1@z"},
		{"z3 none", "ask z3 4 pool=z", "PoolExhausted"},
		{"they may be given after all", "pools lan: 192.0.2.0/24 2001:db8::/127; z: 203.0.112.254-203.0.113.1", ""},
		{"z3 has one", "serve", "z3: 203.0.112.255@z"},
	}},
	{"splitting and renaming", []step{
		{"the pools are made anew under other names", "pools east: 192.0.2.0-192.0.2.3; west: 192.0.2.4-192.0.2.255 2001:db8::/127; z: 203.0.112.254-203.0.113.1", ""},
		{"each address counts for the pool that has it", "counts", "east/ipv4 3 of 4, 1 left; west/ipv4 3 of 252, 249 left; west/ipv6 2 of 2, 0 left; z/ipv4 3 of 4, 1 left"},
		{"s2 asks for east by name", "ask s2 4 pool=east", "192.0.2.0@east"},
		{"s1 asks for lan by name, which is gone, is told, and keeps its address", "ask s1 4 pool=lan", "192.0.2.1@east PoolNotFound"},
		{"s1 asks for any pool", "ask s1 4", "192.0.2.1@east"},
		{"east is split; s2, who asked for it, stays with it, the others go with their addresses", "pools east: 192.0.2.2-192.0.2.3; north: 192.0.2.0-192.0.2.1; west: 192.0.2.4-192.0.2.255 2001:db8::/127; z: 203.0.112.254-203.0.113.1", ""},
		{"s2's request is met as before", "ask s2 4 pool=east", "192.0.2.0@east"},
		{"s1 is in north now", "ask s1 4", "192.0.2.1@north"},
		{"s2 is outside in east, and north has nothing left", "counts", "east/ipv4 3 of 2, 0 left, 1 outside; north/ipv4 1 of 2, 0 left; west/ipv4 3 of 252, 249 left; west/ipv6 2 of 2, 0 left; z/ipv4 3 of 4, 1 left"},
		{"s2 goes", "release s2", "192.0.2.0@east"},
		{"and its address is north's", "ask s2 4 pool=north", "192.0.2.0@north"},
		{"z is deleted: who held from it loses its addresses", "pools east: 192.0.2.2-192.0.2.3; north: 192.0.2.0-192.0.2.1; west: 192.0.2.4-192.0.2.255 2001:db8::/127", "z1: 203.0.112.254@z; z2: 203.0.113.1@z; z3: 203.0.112.255@z"},
		{"z1 starts anew", "ask z1 4", "192.0.2.7@west"},
		{"all is deleted", "pools", "s10: 192.0.2.4@west; s1: 192.0.2.1@north; s2: 192.0.2.0@north; s3: 192.0.2.3@east 2001:db8::@west; s5: 192.0.2.2@east; s7: 2001:db8::1@west; s8: 192.0.2.5@west; s9: 192.0.2.6@west; z1: 192.0.2.7@west"},
		{"nothing is counted", "counts", ""},
	}},
	{"the order of choice", []step{
		{"three open pools", "pools a: 198.51.100.1/32; b: 198.51.100.2-198.51.100.9 2001:db8::/64; c: 203.0.113.1-203.0.113.9 2001:db8:1::/64", ""},
		{"a Service of one family takes the first by name", "ask t1 4", "198.51.100.1@a"},
		{"one of both takes both from the first pool that has both", "ask t2 46", "198.51.100.2@b 2001:db8::@b"},
		{"t3 has one family", "ask t3 6", "2001:db8::1@b"},
		{"c goes first by its priority, a second; b, without one, goes last", "pools a: 198.51.100.1-198.51.100.2 priority=9; b: 198.51.100.3-198.51.100.9 2001:db8::/64; c: 203.0.113.1-203.0.113.9 2001:db8:1::/64 priority=2", ""},
		{"t4 is served by c", "ask t4 4", "203.0.113.1@c"},
		{"t3 gains a family beside its other one, although b goes last", "ask t3 46", "198.51.100.3@b 2001:db8::1@b"},
		{"t4 asks for b by name and leaves c", "ask t4 4 pool=b", "198.51.100.4@b leaving 203.0.113.1@c"},
		{"t5 cannot have c's address before t4 gives it back", "ask t5 4 address=203.0.113.1", "AddressInUse"},
		{"t4 gives it back", "return t4 203.0.113.1", "true"},
		{"and t5 has it", "serve", "t5: 203.0.113.1@c"},
		{"t6 asks for a pool that does not exist", "ask t6 4 pool=d", "PoolNotFound"},
		{"d comes", "pools a: 198.51.100.1-198.51.100.2 priority=9; b: 198.51.100.3-198.51.100.9 2001:db8::/64; c: 203.0.113.1-203.0.113.9 2001:db8:1::/64 priority=2; d: 192.0.2.0/30 manual priority=1", ""},
		{"t6 has its wish", "serve", "t6: 192.0.2.0@d"},
		{"d serves nobody who does not ask for it", "ask t7 4", "203.0.113.2@c"},
		{"an address of d is a way to ask for it too", "ask t8 4 address=192.0.2.3", "192.0.2.3@d"},
		{"t9 asks for an address and a pool that has it", "ask t9 4 pool=d address=192.0.2.2", "192.0.2.2@d"},
		{"t10 asks for an address and a pool that has it not", "ask t10 4 pool=c address=192.0.2.1", "AddressOutsidePool"},
		{"t10 asks for an address that no pool has", "ask t10 4 address=192.0.2.99", "AddressOutsidePool"},
		{"t10 asks for somebody else's", "ask t10 4 address=192.0.2.3", "AddressInUse"},
		{"t8 asks for another; the one it had is ruled out", "ask t8 4 address=192.0.2.1", "192.0.2.1@d leaving 192.0.2.3@d"},
		{"t10 waits until t8 has given it back", "serve", ""},
		{"t8 does", "return t8 192.0.2.3", "true"},
		{"t10 has it", "serve", "t10: 192.0.2.3@d"},
		{"t8 asks for one that does not exist and keeps what it has", "ask t8 4 address=192.0.2.99", "192.0.2.1@d AddressOutsidePool"},
		{"t8 asks for one that is another's and gives up its own", "ask t8 4 address=192.0.2.3", "leaving 192.0.2.1@d AddressInUse"},
		{"t10 wants t8's in exchange", "ask t10 4 address=192.0.2.1", "leaving 192.0.2.3@d AddressInUse"},
		{"t8 gives up", "return t8 192.0.2.1", "true"},
		{"t10 gives up", "return t10 192.0.2.3", "true"},
		{"and they have changed places", "serve", "t10: 192.0.2.1@d; t8: 192.0.2.3@d"},
		{"one asks for both addresses", "ask t11 46 address=203.0.113.9,2001:db8:1::9", "203.0.113.9@c 2001:db8:1::9@c"},
		{"one asks for the IPv4 address and gets the IPv6 one beside it", "ask t12 46 address=198.51.100.9", "198.51.100.9@b 2001:db8::2@b"},
		{"one that must have both gets none of them when one is taken", "ask t13 46 address=203.0.113.8,2001:db8:1::9", "AddressInUse"},
		{"one that would like both gets the free one", "ask t13 46? address=203.0.113.8,2001:db8:1::9", "203.0.113.8@c AddressInUse"},
		{"t11 goes", "release t11", "203.0.113.9@c 2001:db8:1::9@c"},
		{"t13 has both", "serve", "t13: 203.0.113.8@c 2001:db8:1::9@c"},
	}},
	{"pools for some", []step{
		{"all is deleted", "pools", "t10: 192.0.2.1@d; t12: 198.51.100.9@b 2001:db8::2@b; t13: 203.0.113.8@c 2001:db8:1::9@c; t1: 198.51.100.1@a; t2: 198.51.100.2@a 2001:db8::@b; t3: 198.51.100.3@b 2001:db8::1@b; t4: 198.51.100.4@b; t5: 203.0.113.1@c; t6: 192.0.2.0@d; t7: 203.0.113.2@c; t8: 192.0.2.3@d; t9: 192.0.2.2@d"},
		{"a pool for the namespace bank, one for Services of tier front, one for namespaces of team red, and an open one", "pools bank: 192.0.2.0/31 namespaces=bank; front: 192.0.2.16/30 labels=tier=front priority=1; red: 192.0.2.32/30 namespaceLabels=team=red; open: 198.51.100.0/24 priority=1", ""},
		{"who is selected by none gets an open one's", "ask u1 4", "198.51.100.0@open"},
		{"one in bank gets bank's, although open's priority is higher", "ask bank/u1 4", "192.0.2.0@bank"},
		{"one of tier front gets front's", "ask u2 4 labels=tier=front", "192.0.2.16@front"},
		{"one in bank of tier front is selected by both, and front goes first by its priority", "ask bank/u2 4 labels=tier=front", "192.0.2.17@front"},
		{"one whose namespace has no label yet gets an open one's", "ask ops/u1 4", "198.51.100.1@open"},
		{"its namespace gets a label", "namespace ops team=red", ""},
		{"the next in ops gets red's", "ask ops/u2 4", "192.0.2.32@red"},
		{"the first keeps what it has", "ask ops/u1 4", "198.51.100.1@open"},
		{"bank's second address", "ask bank/u3 4", "192.0.2.1@bank"},
		{"when bank's are all in use its Services get open ones", "ask bank/u4 4", "198.51.100.2@open"},
		{"a pool that does not select the Service cannot be asked for by name", "ask u3 4 pool=bank", "PoolNotAllowed"},
		{"nor by address", "ask u3 4 address=192.0.2.33", "PoolNotAllowed"},
		{"u3's label does change that", "ask u3 4 pool=front labels=tier=front", "192.0.2.18@front"},
		{"u3 loses its label and keeps its address", "ask u3 4 pool=front", "192.0.2.18@front"},
		{"a namespace that asks for red by name waits", "ask lab/u1 4 pool=red", "PoolNotAllowed"},
		{"until it has the label", "namespace lab team=red", ""},
		{"then it is served", "serve", "lab/u1: 192.0.2.33@red"},
		{"the label goes, and the address stays", "namespace lab", ""},
		{"as it is its own", "ask lab/u1 4 pool=red", "192.0.2.33@red"},
		{"one in bank asks for an open pool by name", "ask bank/u5 4 pool=open", "198.51.100.3@open"},
		{"the pools close to them: everybody keeps what is held", "pools bank: 192.0.2.0/31 namespaces=other; front: 192.0.2.16/30 labels=tier=back; red: 192.0.2.32/30 namespaceLabels=team=blue; open: 198.51.100.0/24 labels=tier=none", ""},
		{"u2 asks again and has the same", "ask u2 4 labels=tier=front", "192.0.2.16@front"},
		{"bank/u1 too", "ask bank/u1 4", "192.0.2.0@bank"},
		{"a newcomer finds no pool that is for it", "ask u4 4", "NoEligiblePool"},
		{"until one opens", "pools bank: 192.0.2.0/31 namespaces=other; front: 192.0.2.16/30 labels=tier=back; red: 192.0.2.32/30 namespaceLabels=team=blue; open: 198.51.100.0/24", ""},
		{"then it is served", "serve", "u4: 198.51.100.4@open"},
	}},
	{"draining", []step{
		{"open drains", "pools bank: 192.0.2.0/31 namespaces=other; front: 192.0.2.16/30; open: 198.51.100.0/24 drain; red: 192.0.2.32/30 manual", ""},
		{"its holders keep what they have", "ask u1 4", "198.51.100.0@open"},
		{"it is counted", "counts", "bank/ipv4 2 of 2, 0 left; front/ipv4 3 of 4, 1 left; open/ipv4 5 of 256, 251 left, draining; red/ipv4 2 of 4, 2 left"},
		{"newcomers go elsewhere", "ask u5 4", "192.0.2.19@front"},
		{"by name it serves nobody", "ask u6 4 pool=open", "PoolDraining"},
		{"nor by address", "ask u6 4 address=198.51.100.77", "PoolDraining"},
		{"u6 takes any, but there is none", "ask u6 4", "PoolExhausted"},
		{"u1 goes, and its address stays in the pool", "release u1", "198.51.100.0@open"},
		{"nobody is tried", "serve", ""},
		{"after a restart a holder is seated in a draining pool", "seat u1 4 held=198.51.100.0@open", ""},
		{"and keeps what it had", "ask u1 4", "198.51.100.0@open"},
		{"the drain ends", "pools bank: 192.0.2.0/31 namespaces=other; front: 192.0.2.16/30; open: 198.51.100.0/24; red: 192.0.2.32/30 manual", ""},
		{"u6 is served", "serve", "u6: 198.51.100.5@open"},
	}},
	{"quotas", []step{
		{"all is deleted", "pools", "bank/u1: 192.0.2.0@bank; bank/u2: 192.0.2.17@front; bank/u3: 192.0.2.1@bank; bank/u4: 198.51.100.2@open; bank/u5: 198.51.100.3@open; lab/u1: 192.0.2.33@red; ops/u1: 198.51.100.1@open; ops/u2: 192.0.2.32@red; u1: 198.51.100.0@open; u2: 192.0.2.16@front; u3: 192.0.2.18@front; u4: 198.51.100.4@open; u5: 192.0.2.19@front; u6: 198.51.100.5@open"},
		{"a pool gives each namespace two addresses", "pools lan: 192.0.2.0/29 2001:db8::/64 quota=2", ""},
		{"web has one", "ask q1 4", "192.0.2.0@lan"},
		{"and its second", "ask q2 6", "2001:db8::@lan"},
		{"and no third", "ask q3 4", "QuotaExceeded"},
		{"nor one by address", "ask q4 4 address=192.0.2.7", "QuotaExceeded"},
		{"another namespace has two of its own", "ask shop/q1 46", "192.0.2.1@lan 2001:db8::1@lan"},
		{"and no more", "ask shop/q2 46", "QuotaExceeded"},
		{"shop/q1 goes", "release shop/q1", "192.0.2.1@lan 2001:db8::1@lan"},
		{"that serves those of its namespace, and nobody of the other is tried", "serve", "shop/q2: 192.0.2.1@lan 2001:db8::1@lan"},
		{"q1 goes", "release q1", "192.0.2.0@lan"},
		{"q3 and q4 are tried, and the first gets it", "serve", "q3: 192.0.2.0@lan; q4: QuotaExceeded"},
		{"with a second pool there is more", "pools lan: 192.0.2.0/29 2001:db8::/64 quota=2; more: 198.51.100.0/31", ""},
		{"q4 still asks for one of lan", "serve", "q4: QuotaExceeded"},
		{"q5 gets one of more", "ask q5 4", "198.51.100.0@more"},
		{"q6 that must have both has no IPv6 address to get", "ask q6 46", "QuotaExceeded"},
		{"q2 goes", "release q2", "2001:db8::@lan"},
		{"one address of lan is left to web: q4's, and q6 is not even tried", "serve", "q4: 192.0.2.7@lan"},
		{"q4 goes", "release q4", "192.0.2.7@lan"},
		{"q6 has its IPv6 address from lan and its IPv4 one from more", "serve", "q6: 198.51.100.1@more 2001:db8::@lan"},
		{"a Service of both families finds room for one in lan", "release q6", "198.51.100.1@more 2001:db8::@lan"},
		{"more is in use", "ask shop/q3 4", "198.51.100.1@more"},
		{"so it cannot have both", "ask q7 46", "QuotaExceeded"},
		{"one that would like both has one", "ask q7 46?", "192.0.2.2@lan QuotaExceeded"},
		{"the quota is lowered below what is held, and everybody keeps it", "pools lan: 192.0.2.0/29 2001:db8::/64 quota=1; more: 198.51.100.0/31", ""},
		{"q3 has what it had", "ask q3 4", "192.0.2.0@lan"},
		{"the quota is lifted", "pools lan: 192.0.2.0/29 2001:db8::/64; more: 198.51.100.0/31", ""},
		{"q7 gains its second family", "serve", "q7: 192.0.2.2@lan 2001:db8::@lan"},
	}},
	{"sharing", []step{
		{"all is deleted", "pools", "q3: 192.0.2.0@lan; q5: 198.51.100.0@more; q7: 192.0.2.2@lan 2001:db8::@lan; shop/q2: 192.0.2.1@lan 2001:db8::1@lan; shop/q3: 198.51.100.1@more"},
		{"a pool of three", "pools lan: 192.0.2.1-192.0.2.3 2001:db8::/64", ""},
		{"v1 would share under k", "ask v1 4 key=k ports=80", "192.0.2.1@lan"},
		{"v2 has the same key and another port: they share", "ask v2 4 key=k ports=443", "192.0.2.1@lan"},
		{"both have it, who came first first", "holders 192.0.2.1", "v1 v2"},
		{"it is counted once", "counts", "lan/ipv4 1 of 3, 2 left; lan/ipv6 0 of 18446744073709551616, 18446744073709551616 left"},
		{"one port with two protocols is two ports", "ask v3 4 key=k ports=80/UDP", "192.0.2.1@lan"},
		{"the same port clashes: v4 gets another address", "ask v4 4 key=k ports=80", "192.0.2.2@lan"},
		{"v5 clashes with the first and shares the second", "ask v5 4 key=k ports=443", "192.0.2.2@lan"},
		{"v6 has another key", "ask v6 4 key=other ports=8080", "192.0.2.3@lan"},
		{"v7 has no key, and no address is left that it need not share", "ask v7 4 ports=9090", "PoolExhausted"},
		{"v8 clashes with all", "ask v8 4 key=k ports=80", "PoolExhausted"},
		{"v9 asks for an address, and the key is another", "ask v9 4 key=k ports=1 address=192.0.2.3", "AddressInUse"},
		{"v9 asks for one of its key, and the port clashes", "ask v9 4 key=k ports=80 address=192.0.2.1", "SharingConflict"},
		{"v9 asks for one without a key", "ask v9 4 ports=1 address=192.0.2.1", "AddressInUse"},
		{"v9 asks for one that it may share", "ask v9 4 key=k ports=1 address=192.0.2.1", "192.0.2.1@lan"},
		{"v4 goes; v5 still has the address, and v8 may share it now", "release v4", "192.0.2.2@lan"},
		{"v8 is served; v7, who came first, is not tried", "serve", "v8: 192.0.2.2@lan"},
		{"v8 changes its port to one that v5 uses and has to leave", "ask v8 4 key=k ports=443", "leaving 192.0.2.2@lan PoolExhausted"},
		{"v5 has done nothing and keeps it", "ask v5 4 key=k ports=443", "192.0.2.2@lan"},
		{"v8 changes its port back and stays", "ask v8 4 key=k ports=80", "192.0.2.2@lan"},
		{"v8 drops its key and has to leave", "ask v8 4 ports=80", "leaving 192.0.2.2@lan PoolExhausted"},
		{"it is not gone before it has given it back", "holders 192.0.2.2", "v5 v8"},
		{"and nobody else gets in before that", "ask v10 4 key=k ports=80 address=192.0.2.2", "AddressInUse"},
		{"v8 gives it back", "return v8 192.0.2.2", "true"},
		{"and v10 is in", "serve", "v10: 192.0.2.2@lan"},
		{"v6 goes", "release v6", "192.0.2.3@lan"},
		{"v7, first in line, gets what nobody shares", "serve", "v7: 192.0.2.3@lan"},
		{"v7 is alone with its address: it takes up a key and keeps it", "ask v7 4 key=k ports=9090", "192.0.2.3@lan"},
		{"v8 has a key again and shares it", "ask v8 4 key=k ports=80", "192.0.2.3@lan"},
		{"one must have both: it shares its IPv4 address and has an IPv6 one of its own, of one pool", "ask v11 46 key=k ports=2", "192.0.2.1@lan 2001:db8::@lan"},
		{"the next shares both", "ask v12 46 key=k ports=3", "192.0.2.1@lan 2001:db8::@lan"},
		{"nobody shares an address outside its pool", "pools lan: 192.0.2.3/32 2001:db8::/64; next: 192.0.2.1-192.0.2.2 drain", ""},
		{"nor one of a draining pool", "ask v13 4 key=k ports=4", "192.0.2.3@lan"},
		{"those who share keep it", "holders 192.0.2.1", "v1 v2 v3 v9 v11 v12"},
		{"a pool is deleted: all who share lose it", "pools lan: 192.0.2.3/32 2001:db8::/64", "v10: 192.0.2.2@next; v11: 192.0.2.1@next; v12: 192.0.2.1@next; v1: 192.0.2.1@next; v2: 192.0.2.1@next; v3: 192.0.2.1@next; v5: 192.0.2.2@next; v9: 192.0.2.1@next"},
		{"v11 has to share another", "ask v11 46 key=k ports=2", "192.0.2.3@lan 2001:db8::@lan"},
	}},
	{"sharing with local backends and across namespaces", []step{
		{"all is deleted", "pools", "v11: 192.0.2.3@lan 2001:db8::@lan; v12: 2001:db8::@lan; v13: 192.0.2.3@lan; v7: 192.0.2.3@lan; v8: 192.0.2.3@lan"},
		{"a pool", "pools lan: 192.0.2.1-192.0.2.9", ""},
		{"w1 is delivered on its own nodes only", "ask w1 4 key=k ports=1 local selector=app=x", "192.0.2.1@lan"},
		{"w2 has the same backends", "ask w2 4 key=k ports=2 local selector=app=x", "192.0.2.1@lan"},
		{"w3 has others", "ask w3 4 key=k ports=3 local selector=app=y", "192.0.2.2@lan"},
		{"w4 is delivered everywhere, but w1 is not, and w4 has other backends", "ask w4 4 key=k ports=4 selector=app=z", "192.0.2.3@lan"},
		{"w5 is delivered everywhere and has w1's backends", "ask w5 4 key=k ports=5 selector=app=x", "192.0.2.1@lan"},
		{"of w6 nobody knows the backends, and it is delivered everywhere", "ask w6 4 key=k ports=6", "192.0.2.3@lan"},
		{"of w7 nobody knows the backends", "ask w7 4 key=k ports=7 local", "192.0.2.4@lan"},
		{"nor of w8", "ask w8 4 key=k ports=8 local", "192.0.2.5@lan"},
		{"w6 becomes local and has to leave those it does not fit with", "ask w6 4 key=k ports=6 local selector=app=y", "192.0.2.2@lan leaving 192.0.2.3@lan"},
		{"w6 gives it back", "return w6 192.0.2.3", "true"},
		{"one of another namespace does not share by its key alone", "ask shop/w1 4 key=k ports=10 selector=app=z", "192.0.2.6@lan"},
		{"nor when only it says so", "ask shop/w1 4 key=k ports=10 selector=app=z with=web", "192.0.2.6@lan"},
		{"nor by address", "ask shop/w2 4 key=k ports=11 selector=app=z with=web address=192.0.2.3", "SharingConflict"},
		{"w4 says so too", "ask w4 4 key=k ports=4 selector=app=z with=shop", "192.0.2.3@lan"},
		{"and shop/w2, who waited for it, shares", "serve", "shop/w2: 192.0.2.3@lan"},
		{"one that shares with every namespace", "ask bank/w1 4 key=k ports=12 selector=app=z with=*", "192.0.2.7@lan"},
		{"shop does not name bank", "ask bank/w1 4 key=k ports=12 selector=app=z with=* address=192.0.2.6", "leaving 192.0.2.7@lan SharingConflict"},
		{"until it names every one", "ask shop/w1 4 key=k ports=10 selector=app=z with=*", "192.0.2.6@lan"},
		{"then they share", "serve", "bank/w1: 192.0.2.6@lan leaving 192.0.2.7@lan"},
		{"shop takes it back: who changed leaves", "ask shop/w1 4 key=k ports=10 selector=app=z", "192.0.2.8@lan leaving 192.0.2.6@lan"},
		{"bank/w1 keeps it", "held bank/w1", "192.0.2.6@lan 192.0.2.7@lan"},
	}},
	{"restart", []step{
		{"all is deleted", "pools", "bank/w1: 192.0.2.6@lan 192.0.2.7@lan; shop/w1: 192.0.2.6@lan 192.0.2.8@lan; shop/w2: 192.0.2.3@lan; w1: 192.0.2.1@lan; w2: 192.0.2.1@lan; w3: 192.0.2.2@lan; w4: 192.0.2.3@lan; w5: 192.0.2.1@lan; w6: 192.0.2.2@lan; w7: 192.0.2.4@lan; w8: 192.0.2.5@lan"},
		{"two pools", "pools v4: 203.0.113.0/29; v6: 2001:db8:2::/64 quota=1", ""},
		{"x1 keeps what it held", "seat x1 46 held=203.0.113.5@v4,2001:db8:2::5@v6", ""},
		{"x1 is seated twice to no effect", "seat x1 46 held=203.0.113.5@v4", ""},
		{"x1 asks, and nothing changes", "ask x1 46", "203.0.113.5@v4 2001:db8:2::5@v6"},
		{"x2 cannot take x1's address", "seat x2 4 held=203.0.113.5@v4", "203.0.113.5 AddressInUse x1"},
		{"x2 gets another", "ask x2 4", "203.0.113.0@v4"},
		{"x3 keeps an address that its pool has lost", "seat x3 4 held=192.0.2.77@v4", ""},
		{"x4 does not keep one whose pool is gone", "seat x4 4 held=192.0.2.78@lan,192.0.2.79", "192.0.2.78 PoolGone; 192.0.2.79 PoolGone"},
		{"x5 keeps one whose pool it never named", "seat x5 4 held=203.0.113.6", ""},
		{"x6 keeps one address of a family", "seat x6 4 held=203.0.113.3,203.0.113.4", "203.0.113.4 ExtraAddress"},
		{"quotas do not hinder who holds already", "seat x7 6 held=2001:db8:2::7@v6", ""},
		{"but whoever comes now", "ask x8 6", "QuotaExceeded"},
		{"those who shared go on sharing", "seat y1 4 key=k ports=80 held=203.0.113.7@v4", ""},
		{"with each other", "seat y2 4 key=k ports=443 held=203.0.113.7@v4", ""},
		{"of two that may not share the first has it", "seat y3 4 key=k ports=80 held=203.0.113.7@v4", "203.0.113.7 AddressInUse y1"},
		{"y3 waits for no address that is free", "ask y3 4 key=k ports=80", "203.0.113.1@v4"},
		{"what changed while nobody ran is seen: x5 asks for another address", "ask x5 4 address=203.0.113.2", "203.0.113.2@v4 leaving 203.0.113.6@v4"},
		{"x6 for another pool", "ask x6 6 pool=v6", "leaving 203.0.113.3@v4 QuotaExceeded"},
		{"the counts know them all", "counts", "v4/ipv4 8 of 8, 1 left, 1 outside; v6/ipv6 2 of 18446744073709551616, 18446744073709551614 left"},
	}},
}

func TestStory(t *testing.T) {
	a, steps := New(), 0
	for _, chapter := range story {
		for _, s := range chapter.steps {
			steps++
			if got := do(t, a, s.command); got != s.want {
				t.Fatalf("%s: %s (%s):\ngot  %q\nwant %q", chapter.chapter, s.sentence, s.command, got, s.want)
			}
		}
	}
	if steps < 150 {
		t.Errorf("the story has %d steps: has a chapter been lost?", steps)
	}
}

func TestTheEndsOfTheAddressSpaceAreOrdinaryAddresses(t *testing.T) {
	for _, s := range []string{"255.255.255.254-255.255.255.255", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"} {
		r := netipx.MustParseIPRange(s)
		free := newIntervals(false)
		free.addRange(r.From(), r.To())
		for range 2 {
			first, last := free.takeFirst(), free.takeFirst()
			if first != r.From() || last != r.To() || !free.empty() {
				t.Fatalf("took %v and %v from %v", first, last, r)
			}
			free.add(last)
			free.add(first)
			if free.tree.Len() != 1 {
				t.Errorf("%v came back as %d intervals", r, free.tree.Len())
			}
		}
	}
	free := newIntervals(true)
	free.addRange(netip.MustParseAddr("255.255.255.254"), netip.MustParseAddr("255.255.255.255"))
	if free.takeFirst(); !free.empty() {
		t.Error("the last address of all is not avoided")
	}
}

func TestARefusalNamesEachPoolAndWhatWouldHelp(t *testing.T) {
	for _, c := range []struct {
		name     string
		commands []string // the last one is refused
		want     string
	}{
		{"no pool at all", []string{"ask s 4"}, "there is no IPAddressPool: create one"},
		{"pools not in force", []string{"pools bad:", "ask s 4"}, "no IPAddressPool is in force: pool bad: not in force, see its condition Accepted"},
		{"each pool has a reason of its own",
			[]string{
				"pools bad:; bank: 192.0.2.1/32 namespaces=bank; byname: 192.0.2.2/32 manual; going: 192.0.2.3/32 drain; lan: 192.0.2.4/32; six: 2001:db8::/64; thrifty: 192.0.2.8/30 quota=1",
				"ask a 4", "ask b 4", "ask s 4",
			},
			"no IPv4 address: pool going: draining, pool lan: all its 1 IPv4 addresses are in use, pool six: has no IPv4 addresses, " +
				"pool thrifty: namespace web has all 1 addresses of its namespaceQuota, pool bad: not in force, see its condition Accepted, " +
				"pool bank: not for this Service by its serviceAllocation, pool byname: serves only who asks for it, autoAssign is false; " +
				"add addresses to a pool or delete Services that need theirs no more"},
		{"of two families both are explained", []string{"pools lan: 192.0.2.1/32", "ask a 4", "ask s 46"},
			"no IPv4 address: pool lan: all its 1 IPv4 addresses are in use; add addresses to a pool or delete Services that need theirs no more; " +
				"no IPv6 address: pool lan: has no IPv6 addresses; add IPv6 addresses to a pool"},
		{"a pool asked for by name is the only one considered", []string{"pools lan: 192.0.2.1/32; wan: 192.0.2.2/32", "ask a 4", "ask s 4 pool=lan"},
			"no IPv4 address: pool lan: all its 1 IPv4 addresses are in use; add addresses to a pool or delete Services that need theirs no more"},
		{"a pool of a very long name that does not exist", []string{"ask s 4 pool=" + strings.Repeat("x", 500)},
			"pool \"" + strings.Repeat("x", 64) + "\"... is asked for, and there is no IPAddressPool of this name: create it, or ask for another"},
		{"an address and a pool that has it not", []string{"pools lan: 192.0.2.1/32; wan: 192.0.2.2/32", "ask s 4 pool=lan address=192.0.2.2"},
			"192.0.2.2 is asked for and so is pool lan, but the address is of pool wan: ask for one of the two"},
		{"an address of a clashing port", []string{"pools lan: 192.0.2.1/32", "ask a 4 key=k ports=80,443", "ask s 4 key=k ports=443 address=192.0.2.1"},
			"192.0.2.1 is asked for, and it is held by Service web/a, which uses port 443/TCP too: ask for another address, or make it one that both may share"},
		{"a quota that both families need", []string{"pools lan: 192.0.2.0/24 2001:db8::/64 quota=1", "ask s 46"},
			"no IPv6 address: the namespaceQuota of the only pool that has one leaves namespace web a single address, which the other IP family needs; raise the quota, or add addresses to another pool"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := New()
			last := len(c.commands) - 1
			for _, command := range c.commands[:last] {
				do(t, a, command)
			}
			r := a.Allocate(request(t, strings.TrimPrefix(c.commands[last], "ask ")))
			if r.Refusal == nil || r.Refusal.Message != c.want {
				t.Errorf("got  %+v\nwant %s", r.Refusal, c.want)
			}
		})
	}
}

func TestManyPoolsMakeAShortMessage(t *testing.T) {
	a := New()
	var many []string
	for i := range 300 {
		many = append(many, fmt.Sprintf("p%03d:", i))
	}
	do(t, a, "pools "+strings.Join(many, ";"))
	r := a.Allocate(request(t, "s 4"))
	if got := r.Refusal.Message; len(got) > 1000 || !strings.Contains(got, "and 292 more pools") {
		t.Errorf("300 pools make a message of %d bytes: %q", len(got), got)
	}
}

func TestTenThousandPoolsServeTheirOwn(t *testing.T) {
	var many []string
	for i := range 10_000 {
		many = append(many, fmt.Sprintf("p%05d: 10.%d.%d.0/31 namespaces=n%05d", i, i/256, i%256, i))
	}
	a := New()
	do(t, a, "pools "+strings.Join(many, ";"))
	for i := 0; i < 10_000; i += 997 {
		want := fmt.Sprintf("10.%d.%d.0@p%05d", i/256, i%256, i)
		if got := do(t, a, fmt.Sprintf("ask n%05d/s 4", i)); got != want {
			t.Errorf("namespace n%05d got %q, want %q", i, got, want)
		}
	}
	if got := do(t, a, "ask elsewhere/s 4"); got != "NoEligiblePool" {
		t.Errorf("a namespace without a pool got %q", got)
	}
}
