package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"
)

// device is a device as the API shows it.
type device struct {
	DeviceID string    `json:"device_id"`
	App      string    `json:"app"`
	ClientID string    `json:"client_id,omitempty"`
	Disabled bool      `json:"disabled"`
	Created  time.Time `json:"created"`
	Online   bool      `json:"online"`
	Presence *presence `json:"presence,omitempty"`
}

// presence says where a device is online.
type presence struct {
	Since   time.Time `json:"since"`
	From    string    `json:"from"`
	Version string    `json:"version"`
	Node    string    `json:"node"`
}

// newDevice is a device with its secret, which the API shows once.
type newDevice struct {
	DeviceID        string `json:"device_id"`
	DeviceSecretKey string `json:"device_secret_key"`
	License         string `json:"license"`
}

func deviceCommand(sh *shell) *cobra.Command {
	return group("device", "Manage devices, or be one", "",
		deviceAdd(sh), deviceList(sh), deviceShow(sh),
		deviceChange(sh, "disable", http.MethodPost, "Disable a device",
			"Disable a device. It cannot come online, tokens for it are refused, and its sessions end within a second."),
		deviceChange(sh, "enable", http.MethodPost, "Enable a device again", "Enable a device that was disabled."),
		deviceChange(sh, "release", http.MethodPost, "Forget which hardware a device is bound to",
			"Forget which hardware a device is bound to. The next start binds it again; for hardware that was replaced."),
		deviceChange(sh, "remove", http.MethodDelete, "Remove a device",
			"Remove a device. Its license is void, and its sessions end within a second."),
		deviceRun(sh))
}

func deviceAdd(sh *shell) *cobra.Command {
	var name string
	var asJSON bool
	c := &cobra.Command{
		Use: "add --app NAME [DEVICE-ID]", Short: "Add a device to an app",
		Long: `Add a device to an app. Without an id, one is made up. The license, which is the id
and the device secret, is shown now and never again.`,
		Example: "  turnpike device add --app garage CAM01\n  turnpike device add --app garage --json | jq -r .license",
		Args:    arguments(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			if err := require(c, "app"); err != nil {
				return err
			}
			body := map[string]string{}
			if len(args) == 1 {
				body["device_id"] = args[0]
			}
			return sh.with(c.Context(), func(l *link) error {
				var d newDevice
				if err := l.call(c.Context(), http.MethodPost, address(nil, "apps", name, "devices"), body, &d); err != nil {
					return fmt.Errorf("cannot add a device to app %q: %w", name, err)
				}
				if asJSON {
					return sh.line(d)
				}
				return sh.card("device id", d.DeviceID, "device secret key", d.DeviceSecretKey,
					"license", d.License+"  (shown only now: keep it)")
			})
		},
	}
	sh.appFlag(c, &name)
	c.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	return c
}

func deviceList(sh *shell) *cobra.Command {
	var name string
	var asJSON bool
	c := &cobra.Command{
		Use: "list --app NAME", Short: "List an app's devices, and which are online", Example: "  turnpike device list --app garage",
		Args: arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := require(c, "app"); err != nil {
				return err
			}
			return sh.with(c.Context(), func(l *link) error {
				all, err := l.devices(c.Context(), name)
				if err != nil {
					return fmt.Errorf("cannot list the devices of app %q: %w", name, err)
				}
				if asJSON {
					return sh.json(all)
				}
				var rows [][]string
				for _, d := range all {
					rows = append(rows, []string{d.DeviceID, deviceState(d), d.ClientID, when(d.Created)})
				}
				return sh.table("DEVICE-ID STATE CLIENT-ID CREATED", rows)
			})
		},
	}
	sh.appFlag(c, &name)
	c.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	return c
}

func deviceState(d device) string {
	switch {
	case d.Disabled:
		return "disabled"
	case d.Online:
		return "online"
	}
	return "offline"
}

// devices fetches all pages of an app's devices.
func (l *link) devices(ctx context.Context, app string) ([]device, error) {
	all := []device{}
	query := url.Values{"limit": {"1000"}}
	for {
		var page struct {
			Devices []device
			Next    string
		}
		if err := l.call(ctx, http.MethodGet, address(query, "apps", app, "devices"), nil, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Devices...)
		if page.Next == "" {
			return all, nil
		}
		query.Set("after", page.Next)
	}
}

func deviceShow(sh *shell) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "show DEVICE-ID", Short: "Show a device and whether it is online", Example: "  turnpike device show CAM01",
		Args: arguments(cobra.ExactArgs(1)), ValidArgsFunction: sh.completeDevices,
		RunE: func(c *cobra.Command, args []string) error {
			return sh.with(c.Context(), func(l *link) error {
				var d device
				if err := l.call(c.Context(), http.MethodGet, address(nil, "devices", args[0]), nil, &d); err != nil {
					return fmt.Errorf("cannot show device %q: %w", args[0], err)
				}
				if asJSON {
					return sh.json(d)
				}
				pairs := []string{"device id", d.DeviceID, "app", d.App, "state", deviceState(d), "client id", d.ClientID, "created", when(d.Created)}
				if p := d.Presence; p != nil {
					pairs = append(pairs, "online since", when(p.Since), "from", p.From, "version", p.Version, "node", p.Node)
				}
				return sh.card(pairs...)
			})
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	return c
}

// deviceChange is a command that does one thing to one device and says nothing.
func deviceChange(sh *shell, verb, method, short, long string) *cobra.Command {
	return &cobra.Command{
		Use: verb + " DEVICE-ID", Short: short, Long: long,
		Example: "  turnpike device " + verb + " CAM01",
		Args:    arguments(cobra.ExactArgs(1)), ValidArgsFunction: sh.completeDevices,
		RunE: func(c *cobra.Command, args []string) error {
			path := address(nil, "devices", args[0], verb)
			if method == http.MethodDelete {
				path = address(nil, "devices", args[0])
			}
			return sh.with(c.Context(), func(l *link) error {
				if err := l.call(c.Context(), method, path, nil, nil); err != nil {
					return fmt.Errorf("cannot %s device %q: %w", verb, args[0], err)
				}
				return nil
			})
		},
	}
}
