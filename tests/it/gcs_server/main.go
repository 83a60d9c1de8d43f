// A Google Cloud Storage with one empty bucket, in memory: fake-gcs-server, and the one request of Google's XML API
// that it lacks: PUT of an object, with the generation that it must have in a header. It is handed on as the upload of
// the JSON API that means the same.
//
//	gcs_server 127.0.0.1:PORT BUCKET
package main

import (
	"encoding/json"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"

	"github.com/fsouza/fake-gcs-server/fakestorage"
)

func main() {
	address, bucket := os.Args[1], os.Args[2]
	server, err := fakestorage.NewServerWithOptions(fakestorage.Options{NoListener: true, PublicHost: address})
	if err != nil {
		log.Fatal(err)
	}
	server.CreateBucketWithOpts(fakestorage.CreateBucketOpts{Name: bucket})
	api := server.HTTPHandler()
	log.Fatal(http.ListenAndServe(address, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut && strings.HasPrefix(r.URL.Path, "/"+bucket+"/") {
			put(api, w, r, bucket)
		} else {
			api.ServeHTTP(w, r)
		}
	})))
}

func put(api http.Handler, w http.ResponseWriter, r *http.Request, bucket string) {
	name := strings.TrimPrefix(r.URL.Path, "/"+bucket+"/")
	query := url.Values{"uploadType": {"media"}, "name": {name}}
	if generation := r.Header.Get("x-goog-if-generation-match"); generation != "" {
		query.Set("ifGenerationMatch", generation)
	}
	upload := r.Clone(r.Context())
	upload.Method = http.MethodPost
	upload.URL = &url.URL{Path: "/upload/storage/v1/b/" + bucket + "/o", RawQuery: query.Encode()}
	upload.RequestURI = upload.URL.RequestURI()
	answer := httptest.NewRecorder()
	api.ServeHTTP(answer, upload)
	if answer.Code != http.StatusOK {
		w.WriteHeader(answer.Code)
		w.Write(answer.Body.Bytes())
		return
	}
	var object struct{ Etag, Generation string }
	if err := json.Unmarshal(answer.Body.Bytes(), &object); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("ETag", object.Etag)
	w.Header().Set("x-goog-generation", object.Generation)
}
