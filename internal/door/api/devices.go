package api

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/turnpike-rtc/turnpike/internal/access"
	"github.com/turnpike-rtc/turnpike/token"
)

// deviceReader finds devices; an unknown one, and the presence of one that is
// not online, is token.ErrUnknown. Devices lists the ids after a given one, in order.
type deviceReader interface {
	Device(ctx context.Context, id string) (token.Device, error)
	Devices(ctx context.Context, app, after string, limit int) ([]token.Device, error)
	Presence(ctx context.Context, deviceID string) (access.Presence, error)
}

// deviceWriter changes devices.
type deviceWriter interface {
	AddDevice(ctx context.Context, dev token.Device) error
	DisableDevice(ctx context.Context, id string, disabled bool, at time.Time) error
	ReleaseDevice(ctx context.Context, id string) error
	RemoveDevice(ctx context.Context, id string, at time.Time) error
}

// device is a token.Device without its secret, and where it is.
type device struct {
	DeviceID string    `json:"device_id" example:"AABBCCDDEEFF"`
	App      string    `json:"app" example:"demo"`
	ClientID string    `json:"client_id,omitempty" doc:"Physical identity bound by the first start" example:"00:11:22:33:44:55"`
	Disabled bool      `json:"disabled"`
	Created  time.Time `json:"created"`
	Online   bool      `json:"online"`
	Presence *presence `json:"presence,omitempty" doc:"Absent while the device is not online"`
}

type presence struct {
	Since   time.Time `json:"since"`
	From    string    `json:"from" doc:"Address it came from"`
	Version string    `json:"version" doc:"Of the device's software"`
	Node    string    `json:"node" doc:"Node that holds its connection"`
}

// newDevice is the only thing on the wire that has a device secret in it.
type newDevice struct {
	DeviceID        string `json:"device_id" example:"AABBCCDDEEFF"`
	DeviceSecretKey string `json:"device_secret_key" doc:"Keep it: it is not shown again"`
	License         string `json:"license" doc:"Both in one, as a device is started with: <device_id>,<device_secret_key>"`
}

type (
	deviceOut    struct{ Body device }
	newDeviceOut struct{ Body newDevice }
	devicesOut   struct{ Body deviceList }
	devicePath   struct {
		DeviceID string `path:"device_id" doc:"Id of the device" example:"AABBCCDDEEFF"`
	}

	deviceList struct {
		Devices []device `json:"devices"`
		Next    string   `json:"next,omitempty" doc:"Pass it as after to get the next page"`
	}
	listDevices struct {
		App   string `path:"app" doc:"Name of the app" example:"demo"`
		After string `query:"after" doc:"Only devices whose id comes after this one"`
		Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"Most devices in the answer"`
	}
	addDevice struct {
		App  string `path:"app" doc:"Name of the app" example:"demo"`
		Body struct {
			DeviceID string `json:"device_id,omitempty" example:"AABBCCDDEEFF" doc:"Made up when left out"`
		} `nameHint:"AddDevice"`
	}
)

func (d *Door) routeDevices(api huma.API) {
	add(d, api, route{
		method: http.MethodPost, path: "/apps/{app}/devices", id: "add-device", tag: "devices", status: http.StatusCreated,
		summary: "Add a device to an app",
		detail:  "The device secret is in this answer and in no other.",
	}, d.addDevice)
	add(d, api, route{
		method: http.MethodGet, path: "/apps/{app}/devices", id: "list-devices", tag: "devices",
		summary: "List the devices of an app, by id, and which are online",
	}, d.listDevices)
	add(d, api, route{
		method: http.MethodGet, path: "/devices/{device_id}", id: "get-device", tag: "devices",
		summary: "Show a device and whether it is online",
	}, d.getDevice)
	add(d, api, route{
		method: http.MethodPost, path: "/devices/{device_id}/disable", id: "disable-device", tag: "devices", status: http.StatusNoContent,
		summary: "Disable a device",
		detail:  "It cannot come online, tokens for it are refused, and its sessions end within a second.",
	}, d.disableDevice)
	add(d, api, route{
		method: http.MethodPost, path: "/devices/{device_id}/enable", id: "enable-device", tag: "devices", status: http.StatusNoContent,
		summary: "Enable a device again",
	}, d.enableDevice)
	add(d, api, route{
		method: http.MethodPost, path: "/devices/{device_id}/release", id: "release-device", tag: "devices", status: http.StatusNoContent,
		summary: "Forget which hardware a device is bound to",
		detail:  "The next start binds it again. For hardware that was replaced.",
	}, d.releaseDevice)
	add(d, api, route{
		method: http.MethodDelete, path: "/devices/{device_id}", id: "remove-device", tag: "devices", status: http.StatusNoContent,
		summary: "Remove a device",
		detail:  "Its license is void, and its sessions end within a second.",
	}, d.removeDevice)
}

func (d *Door) addDevice(ctx context.Context, in *addDevice) (*newDeviceOut, error) {
	if _, err := d.app(ctx, in.App); err != nil {
		return nil, err
	}
	id := in.Body.DeviceID
	if id == "" {
		id = rand.Text()[:12] // 60 bits; the form that hardware ids have
	}
	if err := checkDeviceID(id); err != nil {
		return nil, err
	}
	dev := token.Device{ID: id, App: in.App, Secret: token.NewSecret(), Created: d.Now()}
	if err := d.Records.AddDevice(ctx, dev); err != nil {
		return nil, err
	}
	err := d.noteDevice(ctx, dev, "created")
	license := token.License{DeviceID: dev.ID, Secret: dev.Secret}
	return &newDeviceOut{newDevice{dev.ID, dev.Secret, license.String()}}, err
}

func (d *Door) listDevices(ctx context.Context, in *listDevices) (*devicesOut, error) {
	if _, err := d.app(ctx, in.App); err != nil {
		return nil, err
	}
	page, err := d.Records.Devices(ctx, in.App, in.After, in.Limit)
	if err != nil {
		return nil, err
	}
	list := deviceList{Devices: []device{}}
	for _, dev := range page {
		view, err := d.deviceOf(ctx, dev)
		if err != nil {
			return nil, err
		}
		list.Devices = append(list.Devices, view)
	}
	if len(page) == in.Limit {
		list.Next = page[len(page)-1].ID
	}
	return &devicesOut{list}, nil
}

// device fetches a device of an app that the caller manages.
func (d *Door) device(ctx context.Context, id string) (token.Device, error) {
	dev, err := d.Records.Device(ctx, id)
	if err == nil && !callerOf(ctx).manages(dev.App) {
		err = token.ErrUnknown
	}
	return dev, unknown("device", err)
}

func (d *Door) getDevice(ctx context.Context, in *devicePath) (*deviceOut, error) {
	dev, err := d.device(ctx, in.DeviceID)
	if err != nil {
		return nil, err
	}
	view, err := d.deviceOf(ctx, dev)
	if err != nil {
		return nil, err
	}
	return &deviceOut{view}, nil
}

// deviceOf puts a device together with where it is.
func (d *Door) deviceOf(ctx context.Context, dev token.Device) (device, error) {
	view := device{DeviceID: dev.ID, App: dev.App, ClientID: dev.ClientID, Disabled: dev.Disabled, Created: dev.Created}
	at, err := d.Records.Presence(ctx, dev.ID)
	if errors.Is(err, token.ErrUnknown) {
		return view, nil
	}
	view.Online, view.Presence = true, &presence{at.Since, at.From, at.Version, at.Node}
	return view, err
}

func (d *Door) disableDevice(ctx context.Context, in *devicePath) (*nothing, error) {
	return d.changeDevice(ctx, in.DeviceID, "disabled", func(id string) error {
		return d.Records.DisableDevice(ctx, id, true, d.Now())
	})
}

func (d *Door) enableDevice(ctx context.Context, in *devicePath) (*nothing, error) {
	return d.changeDevice(ctx, in.DeviceID, "enabled", func(id string) error {
		return d.Records.DisableDevice(ctx, id, false, d.Now())
	})
}

func (d *Door) releaseDevice(ctx context.Context, in *devicePath) (*nothing, error) {
	return d.changeDevice(ctx, in.DeviceID, "released", func(id string) error {
		return d.Records.ReleaseDevice(ctx, id)
	})
}

func (d *Door) removeDevice(ctx context.Context, in *devicePath) (*nothing, error) {
	return d.changeDevice(ctx, in.DeviceID, "removed", func(id string) error {
		return d.Records.RemoveDevice(ctx, id, d.Now())
	})
}

// changeDevice applies a change to a device that the caller manages, and notes it.
func (d *Door) changeDevice(ctx context.Context, id, kind string, change func(id string) error) (*nothing, error) {
	dev, err := d.device(ctx, id)
	if err != nil {
		return nil, err
	}
	if err := change(dev.ID); err != nil {
		return nil, unknown("device", err)
	}
	return nil, d.noteDevice(ctx, dev, kind)
}

func (d *Door) noteDevice(ctx context.Context, dev token.Device, kind string) error {
	return d.note(ctx, access.Event{App: dev.App, Kind: kind, Resource: access.DeviceResource(dev.ID)})
}
