// Package endhost is the endhost API of a SCION AS: what tells a host how to
// reach its network (underlays) and which path segments lead where.
//
// [Client] asks such an API and believes little of what it hears: answers are
// bounded, addresses must make sense from where the API lives ([Scope]), and
// segments pass [Combine], which checks each of them and turns the good ones
// into routes. [ControlService] asks the control services of an AS for the same
// segments. [NewHandler] serves the API to others. [Discover] finds endhost
// APIs.
//
// All of it is unary Connect over HTTP with bare protobuf bodies: the services
// scion.endhost.v1.UnderlayService and SegmentsService,
// endhost.discovery.v1.EndhostApiDiscoveryService, and of the control service
// proto.control_plane.v1.SegmentLookupService.
package endhost
